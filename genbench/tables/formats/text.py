"""Plain text for a terminal, in pieces below each other if it is too wide."""

from __future__ import annotations

import textwrap

from genbench.support.text import printable
from genbench.tables.compact import Compact, compact, fit
from genbench.tables.filled import filled
from genbench.tables.format import Format
from genbench.tables.grid import Entry, Grid, Ink, grid_of, heading_lines
from genbench.tables.layout import Table
from genbench.tables.wording import width

WIDTH = 118
NARROW = 12
GAP = 2
"""Between two columns."""
TEXT = Ink(escape=str, best="{}*", mark=" [{}]", aside="{}", number=str)


def _pad(text: str, size: int, left: bool) -> str:
    space = " " * (size - width(text))
    return text + space if left else space + text


def write(tables: list[Table], room: int = WIDTH) -> str:
    return "\n\n".join(_text_table(table, room) for table in tables) + "\n"


def _text_table(table: Table, room: int) -> str:
    """The table, cut between columns into pieces if it is too wide, each with the models' names."""
    table = filled(table)
    grid = grid_of(table, TEXT)
    rows = [row for _, rows in grid.blocks for row in rows]
    contents = [max((width(line) for row in rows for line in row[i]), default=0) for i in range(len(grid.headings))]
    heads = [heading_lines(head, max(size, NARROW)) for head, size in zip(grid.headings, contents)]
    out = textwrap.wrap(printable(table.title), room)
    out += _text_pieces(grid, heads, 1 if table.published else 2, [0], room, 1 + table.paired)
    marked = [(f"[{i}] ", note) for i, note in grid.notes.numbered()]
    for mark, note in [*marked, *(("", note) for note in table.footnotes)]:
        out += textwrap.wrap(mark + printable(note), room, subsequent_indent=" " * len(mark))
    return "\n".join(out)


def write_compact(tables: list[Table], room: int) -> str:
    return "\n\n".join(
        _text_table(table, room) if table.published else _text_compact(compact(table), room) for table in tables
    )


def _text_compact(given: Compact, room: int) -> str:
    """A line per row, the winner, and what misleads; columns that were asked for are cut into pieces if too wide."""
    count, longest = fit(given, TEXT, width, GAP, room)
    grid = given.grid(TEXT, count, longest)
    out = textwrap.wrap(printable(given.title()), room, break_on_hyphens=False)
    heads = [heading.split("\n") for heading in grid.headings]
    out += _text_pieces(grid, heads, given.fixed, [given.name_column], room, 1 + given.table.paired)
    marked = [f"[{i}] {note}" for i, note in grid.notes.numbered()]
    for note in [*given.sentences(), *marked, *given.notes(count, "*")]:
        out += textwrap.wrap(printable(note), room, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(out)


def _text_pieces(
    grid: Grid, heads: list[list[str]], fixed: int, again: list[int], room: int, abreast: int
) -> list[str]:
    """The grid's columns between rules, below each other if it is too wide; each piece but the first begins `again`.

    So many columns stay `abreast`.
    """
    rows = [row for _, rows in grid.blocks for row in rows]
    sizes = [max(map(width, [*head, *(line for row in rows for line in row[i])])) for i, head in enumerate(heads)]
    return [
        line
        for piece in _pieces(sizes, fixed, again, room, abreast)
        for line in _text_piece(grid, [heads[i] for i in piece], piece, [sizes[i] for i in piece])
    ]


def _pieces(sizes: list[int], fixed: int, again: list[int], room: int, abreast: int = 1) -> list[list[int]]:
    """Which columns stand beside each other, in as few pieces as will do, of about one width.

    The first piece begins with the `fixed` columns (model, runs), the others with those that stand `again`.
    """

    def cut(limit: int) -> list[list[int]]:
        pieces = [list(range(fixed))]
        for i in range(fixed, len(sizes), abreast):
            some = range(i, min(i + abreast, len(sizes)))
            own = fixed if len(pieces) == 1 else len(again)
            if sum(sizes[k] + GAP for k in [*pieces[-1], *some]) - GAP > limit and len(pieces[-1]) > own:
                pieces.append([*again])
            pieces[-1] += some
        return pieces

    pieces = cut(room)
    for limit in range(room, 0, -1):
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
            "  ".join(_pad(cell, size, i in left) for i, cell, size in zip(columns, line, sizes)).rstrip()
            for line in zip(*full)
        ]

    left = range(grid.headings.index("model") + 1)
    rule = "─" * (sum(sizes) + 2 * len(sizes) - 2)
    out = [rule, *lines_of(heads)]
    for block, rows in grid.blocks:
        out += [rule, *([f"{block}:"] if block else [])]
        out += [line for row in rows for line in lines_of([row[i] for i in columns])]
    return [*out, rule]


FORMAT = Format(".txt", 10, write, write_in=write, write_compact=write_compact)
