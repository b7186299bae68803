"""A table for reading: without the columns in which no row has anything, of which a footnote says why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from genbench.support.text import list_words
from genbench.tables.layout import Column, Row, Table
from genbench.tables.wording import has_value

MOST_REASONS = 3


def is_filled(column: Column, rows: Iterable[Row]) -> bool:
    """Whether any row has a value in the column."""
    return any(has_value(row.cells[key]) for row in rows for key in column.keys if key in row.cells)


def filled(table: Table) -> Table:
    """The table without columns of dashes alone; as it is if it has no others, or published ones."""
    columns = tuple(column for column in table.columns if is_filled(column, table.rows))
    if table.published or table.paired or not columns or columns == table.columns:
        return table
    reasons: dict[str, list[str]] = {}
    for column in table.columns:
        if column not in columns:
            reasons.setdefault(_reason(column, table.rows), []).append(column.heading)
    told = "; ".join(f"{list_words(names)} ({why})" for why, names in reasons.items())
    return replace(table, columns=columns, footnotes=(*table.footnotes, f"Left out, as no row has a value: {told}."))


def _reason(column: Column, rows: tuple[Row, ...]) -> str:
    """Why the models have nothing there, or all rows if there is no model."""
    models = [row for row in rows if row.kind == "model"] or rows
    notes = list(dict.fromkeys(row.cells[key].note.rstrip(".") for row in models for key in column.keys))
    return "; ".join([*notes[:MOST_REASONS], *["..."][: len(notes) // (MOST_REASONS + 1)]])
