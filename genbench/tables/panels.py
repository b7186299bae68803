"""What a table ranks together: the models of one block in one column, and the column that decides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from genbench.metrics import metrics_in
from genbench.metrics.likelihood import TEST
from genbench.support.text import printable, shortened
from genbench.tables.layout import Cell, Column, Relation, Row, Table
from genbench.tables.standings import of_samples

LONGEST_DATASET, MOST_DIFFERING = 30, 40
"""Characters of a title."""
NO_REFERENCE = ("not_enough_samples", "not_comparable")
"""States of a reference's cell that a reader would not expect, and is told of."""


def rows_of(tables: Iterable[Table]) -> list[Row]:
    """The rows of what was measured, table by table."""
    return [row for table in tables if not table.published for row in table.rows]


def among(row: Row, rows: Iterable[Row]) -> str:
    """`, conditional`: what tells a row from one of its name in another block; "" if there is none."""
    others = any(other.name == row.name and other.block != row.block for other in rows)
    return f", {row.block.lower()}" if others else ""


@dataclass(frozen=True)
class Panel:
    """The models ranked in one block of one column of one table; `relation`: only its exact values, or only bounds."""

    table: Table
    block: str
    column: Column
    relation: Relation | None = None

    @property
    def rows(self) -> list[Row]:
        return [
            row
            for row in self.table.rows
            if row.kind == "model"
            and row.block == self.block
            and (self.relation is None or self.cell(row).relation == self.relation)
        ]

    @property
    def title(self) -> str:
        return title_of(self.table, self.block)

    def cell(self, row: Row) -> Cell:
        return row.cells[self.column.key]

    def reference(self, kind: str) -> Cell | None:
        """The cell of a reference row in this column; None if the table has no such row."""
        return next((self.cell(row) for row in self.table.rows if row.kind == kind), None)

    def contends(self, row: Row) -> bool:
        """Whether a row may win: it has a value over all its seeds that may rank, and wins nothing by copying."""
        cell = self.cell(row)
        if cell.value is None or cell.n_ok < row.n or cell.unranked or cell.flag:
            return False
        return not (row.copying and of_samples(self.column))

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
    """The panels that name a winner, one for each group, block and extractor.

    Each is of FID or, where that may not rank or was not measured, of the first metric of the same features that a
    headline may take. Where none of these may rank, it is FID's, whose column says why; these come last. A block that
    has none of these metrics is led by its likelihoods.
    """
    found = [
        panel
        for table in tables
        if not table.published
        for block in blocks_of(table)
        for panel in _by_samples(table, block) or _by_likelihood(table, block)
    ]
    return sorted(found, key=lambda panel: bool(panel.column.unranked))


def _by_samples(table: Table, block: str) -> list[Panel]:
    """A panel for each extractor, if the metrics of samples apply to any model of the block."""
    able: dict[str, list[Column]] = {}
    for metric in metrics_in("headline"):
        for column in table.columns:
            if column.metric == metric:
                able.setdefault(column.extractor, []).append(column)
    leading = [next((one for one in some if not one.unranked), some[0]) for some in able.values()]
    found = [Panel(table, block, column) for column in leading]
    return [panel for panel in found if any(panel.cell(row).status != "not_applicable" for row in panel.rows)]


def _by_likelihood(table: Table, block: str) -> list[Panel]:
    """The panel of likelihoods, or one of exact values and one of bounds: these are ranked apart, estimates never."""
    column = next((column for column in table.columns if column.metric == TEST), None)
    if column is None:
        return []
    panel = Panel(table, block, column)
    kinds = {panel.cell(row).relation for row in panel.rows if panel.cell(row).value is not None}
    if len(kinds) == 1 and "~" not in kinds:
        return [panel]
    return [replace(panel, relation=kind) for kind in ("", "<=") if kind in kinds]


def blocks_of(table: Table) -> list[str]:
    """The headings that a table's models stand under."""
    return list(dict.fromkeys(row.block for row in table.rows if row.kind == "model"))


def title_of(table: Table, block: str) -> str:
    """`digits, unconditional`, without a block `digits`, and by what it is apart from other groups of its dataset."""
    apart = f"; {shortened(printable(table.differs), MOST_DIFFERING)}" if table.differs else ""
    where = f", {block.lower()}" if block else ""
    return f"{shortened(printable(table.dataset), LONGEST_DATASET)}{where}{apart}"


def unfinished(rows: Iterable[Row]) -> list[str]:
    """How many runs of which model have no result, and why."""
    return [
        f"{row.n - row.n_ok} of {row.n} runs of {row.name} ({', '.join(sorted(set(row.statuses) - {'complete'}))})"
        for row in rows
        if row.n_ok < row.n
    ]
