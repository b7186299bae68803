"""What figures are made of: a panel for each group of models that a table ranks together, and one look per model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from genbench.metrics import metrics_in
from genbench.plots.style import Look, looks_of, short
from genbench.tables.layout import Cell, Column, Row, Table

MOST_LINES = 10
"""Runs of a row whose curves are drawn: more could not be distinguished."""
CROWD = 50
"""Lines in a panel beyond which they are drawn as pixels: files stay small."""
MOST_BARS = 20
"""Of one panel; the table has the others."""
MOST_DIFFERING = 40
NO_REFERENCE = ("not_enough_samples", "not_comparable")
"""States of a reference's cell that a reader would not expect, and is told of."""
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
        replace(table, rows=tuple(row for row in table.rows if row.is_reference or row.label == label))
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

    def reference(self, kind: str) -> Cell | None:
        """The cell of a reference row in this column; None if the table has no such row."""
        return next((self.cell(row) for row in self.table.rows if row.kind == kind), None)

    def contends(self, row: Row) -> bool:
        """Whether a row may win: it has a value over all its seeds that may rank, and does not copy."""
        cell = self.cell(row)
        return cell.value is not None and cell.n_ok == row.n and not cell.unranked and not row.copying

    def missing(self, drawn: set[str]) -> list[str]:
        """Which runs are not drawn, and why: no failure leaves a plot silently."""
        reasons = unfinished(self.rows)
        lacking = [row for row in self.rows if row.n_ok == row.n and row.name not in drawn]
        lacking += [row for row in self.table.rows if row.is_reference and self.cell(row).status in NO_REFERENCE]
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


def leading_panels(tables: Iterable[Table]) -> list[Panel]:
    """The panels of FID or, where that may not rank, of the first metric of the same features that a headline may take.

    Where none of these may rank, those of FID, whose column says why; they come last.
    """
    first, *others = metrics_in("headline")
    found = [_leading(panel, others) for panel in panels(tables, first)]
    return sorted(found, key=lambda panel: bool(panel.column.unranked))


def _leading(panel: Panel, others: list[str]) -> Panel:
    if not panel.column.unranked:
        return panel
    own = [column for column in panel.table.columns if column.extractor == panel.column.extractor]
    able = (column for metric in others for column in own if column.metric == metric and not column.unranked)
    return replace(panel, column=next(able, panel.column))


def unranked_words(tables: Iterable[Table], metric: str) -> str:
    """Of each extractor in whose features a metric may not rank, that it may not, and why; "" if there is none."""
    found = [column for table in tables for column in table.columns if column.metric == metric and column.unranked]
    told = [f" {column.heading} is not ranked: {column.unranked.rstrip('.')}." for column in found]
    return "".join(dict.fromkeys(told))


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
