"""Autoregressive models: each sub-pixel is predicted from those before it, and drawn after them."""
