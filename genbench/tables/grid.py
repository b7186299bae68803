"""A table as strings: what text, Markdown and LaTeX have in common."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field

from genbench.support.text import DASH, printable, shortened
from genbench.tables.layout import Cell, Column, Row, Table
from genbench.tables.notes import Notes
from genbench.tables.wording import NO_BREAK, detail_text, has_value, heading_text, row_marks, runs_text, value_text

LONGEST_NAME = 40


@dataclass
class Ink:
    """How one format escapes words and numbers, and marks the best value, a footnote and a row that is not ranked."""

    escape: Callable[[str], str]
    best: str
    mark: str
    aside: str
    number: Callable[[str], str]


Entry = list[str]
"""What stands in one place of a grid: a value, and below it its interval and rank."""


@dataclass
class Grid:
    """A table of finished strings."""

    ink: Ink
    headings: list[str]
    blocks: list[tuple[str, list[list[Entry]]]] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)

    def mark(self, note: str) -> str:
        """The mark of a footnote."""
        return self.ink.mark.format(self.notes.number(note))


def grid_of(table: Table, ink: Ink) -> Grid:
    """The table in a format's ink."""
    columns = ["model", *([] if table.published else ["runs"]), *(heading_text(column) for column in table.columns)]
    grid = Grid(ink, [ink.escape(printable(heading, NO_BREAK)) for heading in columns])
    for block, rows in table.blocks:
        lines = []
        for row in rows:
            name = ink.escape(_short(row.name) + row_marks(row))
            name = ink.aside.format(name) if row.is_reference else name
            name += grid.mark(row.remark) if row.remark else ""
            runs = [] if table.published else [[ink.escape(runs_text(row))]]
            lines.append([[name], *runs, *(_entry(grid, column, row) for column in table.columns)])
        grid.blocks.append((ink.escape(printable(block)), lines))
    return grid


def _short(name: str) -> str:
    return shortened(printable(name), LONGEST_NAME)


def _entry(grid: Grid, column: Column, row: Row) -> Entry:
    """The column's one entry for a row: `a`, or `a (b)` if it has two parts, over the interval and rank of `a`."""
    parts = [_part(grid, row.cells[key], style) for key, style in zip(column.keys, column.styles)]
    value = parts[0] if len(parts) == 1 or len(set(parts)) == 1 else f"{parts[0]} ({parts[1]})"
    detail = grid.ink.number(detail_text(row.cells[column.key], column.styles[0]))
    if row.cells[column.key].interval is None:
        return [f"{value} {detail}".rstrip()]
    return [value, detail] if detail else [value]


def _part(grid: Grid, cell: Cell, style: str) -> str:
    ink = grid.ink
    if not has_value(cell):
        return ink.escape(DASH) + grid.mark(cell.note)
    written = ink.number(value_text(cell, style))
    marked = ink.best.format(written) if cell.best else written
    return marked + "".join(grid.mark(note) for note in (cell.flag, cell.remark) if note)


def in_two(heading: str) -> tuple[str, str]:
    """What stands before the parenthesis that ends a heading, and what after; all and nothing if none does."""
    head, _, rest = heading.partition(" (")
    return (head, rest) if rest.endswith(")") else (heading, "")


def heading_lines(heading: str, size: int, hyphens: bool = True) -> list[str]:
    """The heading in lines of `size`; an extractor or unit in parentheses begins a line."""
    head, rest = in_two(heading)
    parts = [head, f"({rest}"] if rest else [head]
    return [
        line for part in parts for line in textwrap.wrap(part, size, break_long_words=False, break_on_hyphens=hyphens)
    ]


def best_words(note: str, mark: str) -> str:
    """The footnote that explains the star, for formats that have bold type."""
    return f"{mark}{note[1:]}" if note.startswith("* ") else note
