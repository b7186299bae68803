"""Every format of a table: a module here is one of its name, and its `FORMAT` says how it is written.

Listing their names imports none of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from genbench.support.errors import BadInput, did_you_mean

if TYPE_CHECKING:
    from genbench.tables.format import Format
    from genbench.tables.layout import Table

FORMATS = tuple(module.name for module in iter_modules(__path__))


@cache
def formats() -> dict[str, Format]:
    """The formats by name, in the order in which a report links them."""
    found: dict[str, Format] = {name: import_module(f"{__name__}.{name}").FORMAT for name in FORMATS}
    return dict(sorted(found.items(), key=lambda named: (named[1].place, named[0])))


def render(tables: Iterable[Table], format: str) -> str:
    """The tables in the format of this name. Raises BadInput if there is none."""
    if format not in FORMATS:
        raise BadInput(f"--format {format}", did_you_mean(format, set(FORMATS)))
    return formats()[format].write(list(tables))
