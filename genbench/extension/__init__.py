"""Plugins: what they register, how they are loaded, and the source behind their models."""
