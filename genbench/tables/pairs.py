"""Which measured row is the same model as which published one, and which of their columns stand beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from genbench.metrics.likelihood import TEST
from genbench.metrics.reconstruction import RFID
from genbench.records.record import Record
from genbench.records.slots import Slot
from genbench.tables.columns import COSTS
from genbench.tables.layout import Column, Row
from genbench.tables.published import PUBLISHED, published
from genbench.tables.wording import has_value

COUNTERPARTS = {
    "inception_score": ("inception_score",),
    "fid_train": ("fid_train", "fid_test"),
    "fid": ("fid_train", "fid_test"),
    TEST: (TEST,),
    "precision": ("precision",),
    "recall": ("recall",),
    RFID: (RFID,),
}
"""By the metric of a published column those that may be measured in its place, the most alike first."""
Both = list[tuple[Column, Column]]
"""Columns of a published table, each with the measured one that stands beside it."""


@dataclass(frozen=True)
class Pair:
    """A published row and the measured rows that are paired with it: none, one, or variants of one model."""

    printed: Row
    measured: tuple[Row, ...] = ()

    @property
    def only(self) -> Row | None:
        """The measured row, if it is the only one."""
        return self.measured[0] if len(self.measured) == 1 else None


def pairs_of(rows: Iterable[Row], name: str) -> list[Pair]:
    """Every row of a published table, in its order, with those of the measured rows that are paired with it."""
    found: dict[int, list[Row]] = {}
    for row in rows:
        if row.kind == "model" and row.records and (printed := partner(row.records[0], name)) is not None:
            found.setdefault(id(printed), []).append(row)
    return [Pair(row, tuple(found.get(id(row), ()))) for row in published(name).table.rows]


def partner(record: Record, name: str) -> Row | None:
    """The published row that a record is paired with: the only one called as its label that is conditioned alike."""
    rows = candidates(record, name)
    return rows[0] if len(rows) == 1 else None


def candidates(record: Record, name: str) -> tuple[Row, ...]:
    """The rows of a published table that are called as a record's label and conditioned alike."""
    if record.job.kind not in (None, "class"):
        return ()
    return _by_name(name).get((record.job.conditional, _letters(record.job.label)), ())


@cache
def _by_name(name: str) -> dict[tuple[bool, str], tuple[Row, ...]]:
    """The rows of a published table by whether they are conditional, and by each name that they answer to."""
    found: dict[tuple[bool, str], tuple[Row, ...]] = {}
    for row in published(name).table.rows:
        for word in dict.fromkeys(map(_letters, _names(row))):
            key = bool(row.conditional), word
            found[key] = (*found.get(key, ()), row)
    return found


def _names(row: Row) -> Iterator[str]:
    """What a published row is called: as it is printed, or by its model alone; either may have its images behind it."""
    for word in (row.name, row.model):
        yield from (word, f"{word} {row.dataset}")


def _letters(name: str) -> str:
    """`DDPM (L_simple)` and `DDPM-L_simple` are one name: a label has no spaces and no parentheses."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def paired_tables(records: Iterable[Record]) -> list[str]:
    """The published tables that any of the records has a row in."""
    records = list(records)
    return [name for name in PUBLISHED if any(partner(record, name) for record in records)]


def counterparts(columns: Sequence[Column], name: str) -> Both:
    """The columns of a published table that can be measured, each with the one of `columns` to stand beside it.

    All of the features of one extractor: Inception's if there are, else the first whose FID may rank.
    """
    extractor = _extractor(columns)
    found = []
    for printed in published(name).table.columns:
        able = {column.metric: column for column in columns if column.extractor in ("", extractor)}
        metrics = [metric for metric in COUNTERPARTS.get(printed.key.metric, ()) if metric in able]
        if metrics:
            found.append((printed, able[metrics[0]]))
    return found


def costs_beside(name: str) -> Both:
    """The costs of a published table, each with a column of the same cost here: they are in no order."""
    found = []
    for printed in published(name).table.columns:
        if printed.key.metric in COSTS:
            heading, style, _ = COSTS[printed.key.metric]
            found.append((printed, Column((printed.key,), heading, (style,))))
    return found


def _extractor(columns: Sequence[Column]) -> str:
    """The extractor whose features stand beside published ones; "" if there is none."""
    names = list(dict.fromkeys(column.extractor for column in columns if column.extractor))
    refused = {column.extractor for column in columns if column.metric.startswith("fid_") and column.unranked}
    return min(names, key=lambda name: (not name.startswith("inception"), name in refused), default="")


def printed_slot(column: Column) -> Slot:
    """Where a published number stands in a row that has measured ones."""
    return Slot(f"published_{column.key.metric}")


def joined(pair: Pair, row: Row | None, columns: Both) -> Row:
    """A row of published numbers and, if there is one, of a measured row's."""
    cells = {printed_slot(there): pair.printed.cells[there.key] for there, _ in columns}
    printed = {slot: replace(cell, note="") if has_value(cell) else cell for slot, cell in cells.items()}
    if row is None:
        return replace(pair.printed, cells=printed)
    name = pair.printed.name + row.name.removeprefix(row.label)
    return replace(row, name=name, cells=row.cells | printed, block=pair.printed.block, remark=pair.printed.remark)
