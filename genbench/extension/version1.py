"""The module names of version 1 of the plugin API, for plugins that still import from them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

MOVED = {
    "genbench.cost": "genbench.metering.meter",
    "genbench.errors": "genbench.support.errors",
    "genbench.progress": "genbench.support.progress",
    "genbench.sample": "genbench.records.samples",
    "genbench.seeds": "genbench.support.seeds",
    "genbench.store": "genbench.support.store",
}
"""Old modules, and where their names are now."""
PACKAGES = {"genbench.data": "genbench.data.dataset", "genbench.records": "genbench.records.record"}
"""Modules that have become packages, and where their names are."""


def offer() -> None:
    """Make the old names importable; nothing is imported until one of them is used."""
    for old, new in MOVED.items():
        if old not in sys.modules:
            module = ModuleType(old, f"Moved to {new}.")
            module.__getattr__ = _finder(old, new)  # type: ignore[method-assign]
            sys.modules[old] = module
    for old, new in PACKAGES.items():
        import_module(old).__getattr__ = _finder(old, new)  # type: ignore[method-assign]


def _finder(old: str, new: str) -> Callable[[str], Any]:
    def find(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(import_module(new), name)
        warnings.warn(f"{old}.{name} is now {new}.{name}", DeprecationWarning, stacklevel=2)
        return found

    return find
