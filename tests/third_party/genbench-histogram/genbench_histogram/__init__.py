"""A histogram of every pixel, as somebody else would distribute it: a package of two modules, with an entry point."""

from collections.abc import Callable

from genbench import Model, hookimpl

from .model import Histogram

genbench_api = 1


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(Histogram)
