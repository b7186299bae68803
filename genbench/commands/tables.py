"""What a command prints of records: whole tables, or on a terminal a line per row and where the rest is."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from genbench.records.record import Record
from genbench.support.errors import BadInput
from genbench.tables.build import make_layouts, make_tables
from genbench.tables.chosen import chosen_layout
from genbench.tables.formats import render, render_compact
from genbench.tables.layout import Table
from genbench.tables.layouts import BESIDE, FULL
from genbench.tables.layouts import layouts as layouts_by_name
from genbench.tables.published import published_tables

USUAL = "quality"
PAGE = 80
"""Columns of a compact table that is no terminal's."""


@dataclass(frozen=True)
class Wanted:
    """What was asked for: a format, and the columns by name, by layout or, of neither, the usual ones.

    `room` is how many columns the terminal has, None if the result goes elsewhere.
    """

    format: str = "text"
    layout: str | None = None
    columns: str | None = None
    published: bool = False
    compact: bool = False
    full: bool = False
    room: int | None = None

    def __post_init__(self) -> None:
        if self.compact and self.full:
            raise BadInput("--compact and --full exclude each other", "leave one of them out")
        if self.columns is not None and self.layout is not None:
            raise BadInput("--columns and --layout exclude each other", "leave one of them out")

    @property
    def is_short(self) -> bool:
        return self.compact or (self.format == "text" and self.room is not None and not self.full)


def table_text(records: list[Record], wanted: Wanted, runs: Iterable[Path]) -> str:
    """The tables of some records, and for a reader at a terminal how to see the rest. Raises BadInput."""
    tables = _tables(records, wanted)
    if not wanted.is_short:
        return render(tables, wanted.format, wanted.room)
    room = wanted.room or PAGE
    text = render_compact(tables, wanted.format, room)
    return text if wanted.format != "text" or not wanted.room else f"{text}\n\n{_rest(runs, room)}"


def results_text(records: list[Record], layouts: Iterable[str], out: Path, full: bool, room: int | None) -> str:
    """What a command says of the records it has made: the tables of some layouts, or on a terminal all in short.

    Above them those beside published numbers, if there is anything to compare.
    """
    beside = [table for table in make_tables(records, BESIDE) if layouts_by_name()[BESIDE].is_shown(table)]
    if room is None or full:
        found = [beside, *make_layouts(records, layouts).values()]
        return "\n".join(render(some, "text", room) for some in found if some)
    short = table_text(records, Wanted(room=room), [out])
    return f"{render_compact(beside, 'text', room)}\n\n{short}" if beside else short


def _tables(records: list[Record], wanted: Wanted) -> list[Table]:
    if wanted.columns is None:
        layout = wanted.layout or (FULL if wanted.is_short else USUAL)
        shown = wanted.published or not wanted.is_short
        return [table for table in make_tables(records, layout, wanted.published) if shown or not table.published]
    names = [name.strip() for name in wanted.columns.split(",")]
    if not all(names):
        raise BadInput(f"--columns {wanted.columns!r}: an empty name", "names with commas between: fid_test,recall,nll")
    tables = make_tables(records, chosen_layout(names, records))
    return tables + (published_tables(layouts_by_name()[USUAL].published, None) if wanted.published else [])


def _rest(runs: Iterable[Path], room: int) -> str:
    """Where all columns, intervals and notes are."""
    folders = shlex.join(str(path) for path in runs)
    words = f"Everything else: genbench table {folders} --full, or genbench report {folders} -o DIR."
    return "\n".join(textwrap.wrap(words, room, break_on_hyphens=False, break_long_words=False))
