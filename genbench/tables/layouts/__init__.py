"""Every layout of a table: a module here is one of its name, and its `LAYOUT` says what is in it.

Listing their names imports none of them.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genbench.tables.layout import Layout

LAYOUTS = tuple(module.name for module in iter_modules(__path__))
FULL = "full"
"""The layout with all that was measured, which figures and pages are made from."""
BESIDE = "beside"
"""The layout of published and measured numbers side by side."""
CHOSEN = "columns"
"""What a table is laid out as whose columns were chosen by name."""


@cache
def layouts() -> dict[str, Layout]:
    """The layouts by name, in the order of a report's sections."""
    found: dict[str, Layout] = {name: import_module(f"{__name__}.{name}").LAYOUT for name in LAYOUTS}
    return dict(sorted(found.items(), key=lambda named: (named[1].place, named[0])))
