"""What figures are made of: a panel for each group of models that a table ranks together, and one look per model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from genbench.plots.style import Look, looks_of, short
from genbench.tables.layout import Cell, Column, Row, Table
from genbench.tables.references import REFERENCE_ROWS

MOST_LINES = 10
"""Runs of a row whose curves are drawn: more could not be distinguished."""
CROWD = 50
"""Lines in a panel beyond which they are drawn as pixels: files stay small."""
MOST_BARS = 20
"""Of one panel; the table has the others."""
MOST_DIFFERING = 40
BARS = "Bars: 95 % intervals, over seeds if several finished, else within the single run."
Looks = Mapping[str, Look]
Points = list[tuple[float, float]]


def palette(tables: Iterable[Table]) -> dict[str, Look]:
    """A look for each model, by the name of its row, the same in every plot that is given it."""
    return looks_of(row.name for row in rows_of(tables) if row.kind == "model")


def rows_of(tables: Iterable[Table]) -> list[Row]:
    """The rows of what was measured, table by table."""
    return [row for table in tables if not table.published for row in table.rows]


def of_label(tables: Iterable[Table], label: str) -> list[Table]:
    """The tables that have a model of this label, cut to its rows and the references."""
    cut = [
        replace(table, rows=tuple(row for row in table.rows if row.kind in REFERENCE_ROWS or row.label == label))
        for table in tables
        if any(row.kind == "model" and row.label == label for row in table.rows)
    ]
    return [table for table in cut if not table.published]


@dataclass(frozen=True)
class Panel:
    """The models ranked in one block of one column of one table."""

    table: Table
    block: str
    column: Column

    @property
    def rows(self) -> list[Row]:
        return [row for row in self.table.rows if row.kind == "model" and row.block == self.block]

    @property
    def title(self) -> str:
        return title_of(self.table, self.block)

    def cell(self, row: Row) -> Cell:
        return row.cells[self.column.key]

    def reference(self, kind: str) -> float | None:
        """The value of a reference row in this column."""
        return next((self.cell(row).value for row in self.table.rows if row.kind == kind), None)

    def missing(self, drawn: set[str]) -> list[str]:
        """Which runs are not drawn, and why: no failure leaves a plot silently."""
        reasons = unfinished(self.rows)
        lacking = [row for row in self.rows if row.n_ok == row.n and row.name not in drawn]
        return reasons + [f"{row.name} ({self.cell(row).note or 'no such cost counted'})" for row in lacking]


def panels(tables: Iterable[Table], metric: str) -> list[Panel]:
    """A panel for each group, block and extractor in which the metric was measured."""
    return [
        Panel(table, block, column)
        for table in tables
        if not table.published
        for block in blocks_of(table)
        for column in table.columns
        if column.metric == metric
    ]


def blocks_of(table: Table) -> list[str]:
    """The headings that a table's models stand under."""
    return list(dict.fromkeys(row.block for row in table.rows if row.kind == "model"))


def title_of(table: Table, block: str) -> str:
    """`digits, unconditional`, and by what it is apart from other groups of its dataset."""
    apart = f"; {short(table.differs, MOST_DIFFERING)}" if table.differs else ""
    return f"{short(table.dataset)}, {block.lower()}{apart}"


def unfinished(rows: Iterable[Row]) -> list[str]:
    """How many runs of which model have no result, and why."""
    return [
        f"{row.n - row.n_ok} of {row.n} runs of {row.name} ({', '.join(sorted(set(row.statuses) - {'complete'}))})"
        for row in rows
        if row.n_ok < row.n
    ]


def first_seeds(tables: Iterable[Table]) -> str:
    """A remark that only the first runs' curves are drawn, if any row has many."""
    some = any(len(row.records) > MOST_LINES for row in rows_of(tables))
    return f" (of the first {MOST_LINES} seeds)" if some else ""


def too_many(rows: int, title: str) -> list[str]:
    """How many models of a panel have no bar, for lack of room."""
    return [f"{rows - MOST_BARS} more models of {title}, see its table"] if rows > MOST_BARS else []
