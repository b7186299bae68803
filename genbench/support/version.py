"""The version of genbench."""

__version__ = "0.1.0"
