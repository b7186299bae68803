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


def render_compact(tables: Iterable[Table], format: str, room: int = 80) -> str:
    """The tables in the format of this name, a line per row: on a terminal of `room` columns, or as a page has room.

    Raises BadInput if that is not for tables to be looked at.
    """
    write = formats()[format].write_compact if format in FORMATS else None
    if write is None:
        able = [name for name, known in formats().items() if known.write_compact]
        raise BadInput(f"--compact --format {format}", f"--compact is for {', '.join(able)}; --columns is for all")
    return write(list(tables), room)


def render(tables: Iterable[Table], format: str, room: int | None = None) -> str:
    """The tables in the format of this name, for a terminal of `room` columns if any. Raises BadInput if unknown."""
    if format not in FORMATS:
        raise BadInput(f"--format {format}", did_you_mean(format, set(FORMATS)))
    entry = formats()[format]
    return entry.write_in(list(tables), room) if room and entry.write_in else entry.write(list(tables))
