"""Plain text for a terminal, in pieces below each other if it is too wide."""

from __future__ import annotations

import textwrap

from genbench.support.text import printable
from genbench.tables.filled import filled
from genbench.tables.format import Format
from genbench.tables.grid import Entry, Grid, Ink, grid_of, in_two
from genbench.tables.layout import Table
from genbench.tables.wording import width

WIDTH = 118
NARROW = 12
TEXT = Ink(escape=str, best="{}*", mark=" [{}]", aside="{}")


def _pad(text: str, size: int, left: bool) -> str:
    space = " " * (size - width(text))
    return text + space if left else space + text


def write(tables: list[Table]) -> str:
    return "\n\n".join(_text_table(table) for table in tables) + "\n"


def _text_table(table: Table) -> str:
    """The table, cut between columns into pieces if it is too wide, each with the models' names."""
    table = filled(table)
    grid = grid_of(table, TEXT)
    rows = [row for _, rows in grid.blocks for row in rows]
    contents = [max((width(line) for row in rows for line in row[i]), default=0) for i in range(len(grid.headings))]
    heads = [_heading_lines(head, max(size, NARROW)) for head, size in zip(grid.headings, contents)]
    sizes = [max(size, *map(width, head)) for size, head in zip(contents, heads)]
    fixed = 1 if table.published else 2
    out = textwrap.wrap(printable(table.title), WIDTH)
    for piece in _pieces(sizes, fixed):
        out += _text_piece(grid, [heads[i] for i in piece], piece, [sizes[i] for i in piece])
    marked = [(f"[{i}] ", note) for i, note in grid.notes.numbered()]
    for mark, note in [*marked, *(("", note) for note in table.footnotes)]:
        out += textwrap.wrap(mark + printable(note), WIDTH, subsequent_indent=" " * len(mark))
    return "\n".join(out)


def _pieces(sizes: list[int], fixed: int) -> list[list[int]]:
    """Which columns stand beside each other, in as few pieces as will do, of about one width.

    The first piece begins with the `fixed` columns (model, runs), the others with the first.
    """

    def cut(limit: int) -> list[list[int]]:
        pieces = [list(range(fixed))]
        for i in range(fixed, len(sizes)):
            own = fixed if len(pieces) == 1 else 1
            if sum(sizes[k] + 2 for k in [*pieces[-1], i]) - 2 > limit and len(pieces[-1]) > own:
                pieces.append([0])
            pieces[-1].append(i)
        return pieces

    pieces = cut(WIDTH)
    for limit in range(WIDTH, 0, -1):
        if len(narrower := cut(limit)) > len(pieces):
            break
        pieces = narrower
    return pieces


def _text_piece(grid: Grid, heads: list[list[str]], columns: list[int], sizes: list[int]) -> list[str]:
    """The lines of some of the grid's columns: heading and blocks between rules."""

    def lines_of(entries: list[Entry]) -> list[str]:
        height = max(map(len, entries))
        full = [[*entry, *[""] * (height - len(entry))] for entry in entries]
        return [
            "  ".join(_pad(cell, size, i == 0) for i, (cell, size) in enumerate(zip(line, sizes))).rstrip()
            for line in zip(*full)
        ]

    rule = "─" * (sum(sizes) + 2 * len(sizes) - 2)
    out = [rule, *lines_of(heads)]
    for block, rows in grid.blocks:
        out += [rule, *([f"{block}:"] if block else [])]
        out += [line for row in rows for line in lines_of([row[i] for i in columns])]
    return [*out, rule]


def _heading_lines(heading: str, size: int) -> list[str]:
    """The heading in lines of `size`; an extractor or unit in parentheses begins a line."""
    head, rest = in_two(heading)
    parts = [head, f"({rest}"] if rest else [head]
    return [line for part in parts for line in textwrap.wrap(part, size, break_long_words=False)]


FORMAT = Format(".txt", 10, write)
