"""Which columns may rank: what the rulers in the records say of each metric in the features of each extractor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from genbench.records.record import Record
from genbench.records.ruler import Ruler
from genbench.records.slots import Slot
from genbench.tables.groups import Group
from genbench.tables.layout import Column


def judged(column: Column, group: Group) -> Column:
    """The column, with why it may not rank if any run that it holds says so, the row `real` first.

    A metric on which no ruler has a verdict may rank.
    """
    members = [view.record for view in group.views if column.key in view.slots]
    return replace(column, unranked=verdict(members, column.key))


def verdict(records: Iterable[Record], slot: Slot) -> str:
    """Why a metric in an extractor's features may not rank, by the first of the records that says so; else ""."""
    rulers = (record.rulers.get(slot.extractor) for record in _real_first(records))
    return next((why for ruler in rulers if ruler and (why := ruler.verdicts.get(slot.metric, ""))), "")


def rulers_of(records: Iterable[Record]) -> dict[str, Ruler]:
    """The ruler of each extractor: that of the row `real`, which alone keeps its rungs, or any other."""
    found: dict[str, Ruler] = {}
    for record in _real_first(records):
        for extractor, ruler in record.rulers.items():
            if extractor not in found or (ruler.rungs and not found[extractor].rungs):
                found[extractor] = ruler
    return found


def _real_first(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record.job.model != "real")
