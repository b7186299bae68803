"""Plugins: what they register, how they are loaded, and the source files of their models."""
