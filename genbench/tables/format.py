"""One entry a format that tables are written in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from genbench.tables.layout import Table


@dataclass(frozen=True)
class Format:
    """A format, in `genbench.tables.formats` under its name.

    A report links the files in the order of `place`; of several datasets each has tables of its own in the formats
    that are `per_dataset`. `write_in` suits a terminal of that many columns, `write_compact` writes a
    line per row, on a terminal or a page.
    """

    suffix: str
    place: int
    write: Callable[[list[Table]], str]
    per_dataset: bool = False
    write_in: Callable[[list[Table], int], str] | None = None
    write_compact: Callable[[list[Table], int], str] | None = None
