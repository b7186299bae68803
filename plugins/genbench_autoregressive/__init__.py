"""Autoregressive models: the exact probability of an image, one sub-pixel after another."""

from collections.abc import Callable

from genbench import Model, hookimpl


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    """One line a model."""
