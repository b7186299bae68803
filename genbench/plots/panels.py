"""What figures have in common: how much they hold, one look per model, and what they say of what they leave out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from genbench.plots.style import Look, looks_of
from genbench.tables.layout import Table
from genbench.tables.panels import rows_of

MOST_LINES = 10
"""Runs of a row whose curves are drawn: more could not be distinguished."""
CROWD = 50
"""Lines in a panel beyond which they are drawn as pixels: files stay small."""
MOST_BARS = 20
"""Of one panel; the table has the others."""
BARS = "Bars: 95 % intervals, over seeds if several finished, else within the single run."
Looks = Mapping[str, Look]
Points = list[tuple[float, float]]


def palette(tables: Iterable[Table]) -> dict[str, Look]:
    """A look for each model, by the name of its row, the same in every plot that is given it.

    Those of models that ship with genbench are the same whatever else is in the tables.
    """
    rows = [row for row in rows_of(tables) if row.kind == "model"]
    shipped = {row.name for row in rows if row.name == row.model and row.ships}
    return looks_of((row.name for row in rows), shipped)


def of_label(tables: Iterable[Table], label: str) -> list[Table]:
    """The tables that have a model of this label, cut to its rows and the references."""
    cut = [
        replace(table, rows=tuple(row for row in table.rows if row.is_reference or row.label == label))
        for table in tables
        if any(row.kind == "model" and row.label == label for row in table.rows)
    ]
    return [table for table in cut if not table.published]


def unranked_words(tables: Iterable[Table], metric: str) -> str:
    """Of each extractor in whose features a metric may not rank, that it may not, and why; "" if there is none."""
    found = [column for table in tables for column in table.columns if column.metric == metric and column.unranked]
    told = [f" {column.heading} is not ranked: {column.unranked.rstrip('.')}." for column in found]
    return "".join(dict.fromkeys(told))


def first_seeds(tables: Iterable[Table]) -> str:
    """A remark that only the first runs' curves are drawn, if any row has many."""
    some = any(len(row.records) > MOST_LINES for row in rows_of(tables))
    return f" (of the first {MOST_LINES} seeds)" if some else ""


def too_many(rows: int, title: str) -> list[str]:
    """How many models of a panel have no bar, for lack of room."""
    return [f"{rows - MOST_BARS} more models of {title}, see its table"] if rows > MOST_BARS else []
