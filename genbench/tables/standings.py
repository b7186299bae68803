"""Rows -> rows with ranks: in each block and column, among the models whose numbers mean the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from genbench.metrics import metric_named
from genbench.records.equality import has_equal_seconds, is_trained_equally
from genbench.records.slots import Slot
from genbench.tables.layout import Cell, Column, Row
from genbench.tables.ranking import Entrant, Pair, Seed, rank, without_error

UNEQUAL = "its machine gave it less than its threads could use"
NO_ERROR = "its error is unknown, while others of its column and block have one"
SPEED = "images_per_second"
Marks = dict[tuple[int, Slot], dict[str, Any]]
"""By row and key what the cell says of its rank: which one and whether it is shared, or why it has none."""


def ranked(rows: list[Row], columns: list[Column]) -> tuple[list[Row], list[tuple[Slot, str, Pair]]]:
    """The rows with a rank in every cell that has one, and the tests behind the ranks as (column, block, pair).

    Conditional and unconditional models are ranked apart, bounds apart from exact values; references, published rows,
    estimates (`~`) and flagged values are not ranked, nor is a model that has no rival. Nothing is ranked in a column
    whose metric may not rank on these images, no value without an error beside values that have one, and nothing that
    depends on seconds in which a model had less than its threads could use: it neither wins nor loses by them.
    """
    marks: Marks = {}
    tests: list[tuple[Slot, str, Pair]] = []
    for block in dict.fromkeys(row.block for row in rows if row.kind == "model"):
        members = {i: row for i, row in enumerate(rows) if row.kind == "model" and row.block == block}
        for column in columns:
            for relation in ("", "<="):
                tests += [(column.key, block, pair) for pair in _rank(members, column, relation, marks)]
    return [
        replace(row, cells={key: replace(cell, **marks.get((i, key), {})) for key, cell in row.cells.items()})
        for i, row in enumerate(rows)
    ], tests


def _rank(members: dict[int, Row], column: Column, relation: str, marks: Marks) -> list[Pair]:
    """Rank the members whose cell has this relation, and those that failed to have a value; write into `marks`."""
    if column.better is None:
        return []
    cells = {i: row.cells[column.key] for i, row in members.items()}
    unequal = {i for i, row in members.items() if not _equal(row, column)}
    marks |= {(i, column.key): {"unranked": UNEQUAL} for i in unequal if cells[i].value is not None}
    cells = {i: cell for i, cell in cells.items() if i not in unequal}
    if column.unranked:
        marks |= {(i, column.key): {"unranked": column.unranked} for i, cell in cells.items() if cell.value is not None}
        return []
    entrants = [
        entrant_of(str(i), members[i], cell, of_samples(column))
        for i, cell in cells.items()
        if (cell.relation == relation and cell.value is not None and not cell.flag) or _failed(members[i], cell)
    ]
    bare = without_error(entrants)
    marks |= {(int(name), column.key): {"unranked": NO_ERROR} for name in bare}
    entrants = [entrant for entrant in entrants if entrant.name not in bare]
    if len(entrants) < 2:
        return []
    ranks, pairs = rank(entrants, column.better)
    shared = Counter(ranks.values())
    marks |= {(int(name), column.key): {"rank": place, "tied": shared[place] > 1} for name, place in ranks.items()}
    return [_named(pair, members) for pair in pairs]


def _equal(row: Row, column: Column) -> bool:
    """Whether a row's values in a column are those of its model alone: speed, or what a budget in seconds allowed."""
    if column.key.metric == SPEED:
        return all(has_equal_seconds(record.cost.sample) for record in row.records)
    return all(is_trained_equally(record) for record in row.records)


def of_samples(column: Column) -> bool:
    """Whether a column is about samples, their speed included: whoever copies images wins none of these."""
    return metric_named(column.metric).family == "fidelity"


def _named(pair: Pair, members: dict[int, Row]) -> Pair:
    """The pair with the names of its rows for their numbers."""
    better = members[int(pair.better)].name if pair.better else ""
    return replace(pair, a=members[int(pair.a)].name, b=members[int(pair.b)].name, better=better)


def _failed(row: Row, cell: Cell) -> bool:
    """Whether a cell is empty because every run failed: a rival that lost, unlike one the metric does not apply to.

    One that has not ended is no rival yet.
    """
    if all(record.under_way for record in row.records):
        return False
    return cell.value is None and (row.n_ok == 0 or cell.status in ("failed", "diverged"))


def entrant_of(name: str, row: Row, cell: Cell, of_samples: bool) -> Entrant:
    """The row's runs by seed; a run that did not finish has no value, whatever it measured or cost."""
    seen: Counter[int] = Counter()
    values: dict[Seed, float | None] = {}
    ranges = {}
    for i, record in enumerate(row.records):
        seed = (record.job.seed, seen[record.job.seed])
        seen[record.job.seed] += 1
        values[seed] = cell.values[i] if record.status == "complete" and cell.values else None
        if cell.ranges and (own := cell.ranges[i]) is not None:
            ranges[seed] = own
    return Entrant(name, values, ranges, copies=of_samples and bool(row.copying))
