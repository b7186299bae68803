"""What a row's machines did not give to some of its runs, and what that means for what a table shows of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from genbench.records.equality import has_equal_seconds, is_trained_equally, remarks_of
from genbench.records.record import Record
from genbench.tables.layout import Row

MOST_TOLD = 3
"""Runs of a row of which a footnote says what each of them lacked."""


def unequal(records: list[Record]) -> str:
    """What was not as it should be while which of a row's runs trained or sampled, worst first; "" if nothing was."""
    told = [(record, "; ".join(remarks_of(record))) for record in records if remarks_of(record)]
    told.sort(key=lambda pair: _share(pair[0]))
    words = [f"seed {record.job.seed}: {text}" if len(records) > 1 else text for record, text in told]
    more = [f"{len(words) - MOST_TOLD} more of its {len(records)} runs alike"] if len(words) > MOST_TOLD else []
    return "; ".join([*words[:MOST_TOLD], *more])


def _share(record: Record) -> float:
    train = record.cost.train
    return 1.0 if train is None or train.usage is None or train.usage.share is None else train.usage.share


def notes_of(rows: Iterable[Row]) -> Iterator[str]:
    """What machines did not give to which rows, and what follows: those that the same follows for together."""
    told: dict[str, list[str]] = {}
    for row in rows:
        if row.unequal:
            told.setdefault(_consequence(row), []).append(f"{row.name}: {row.unequal}")
    for what_follows, words in told.items():
        yield f"{'. '.join(words)}.{what_follows}"


def _consequence(row: Row) -> str:
    """What follows for an unequal row, a sentence; "" if nothing does."""
    if not all(map(is_trained_equally, row.records)):
        return (
            " Under a budget in seconds this means less training than could have been: no rank by quality, and no rank "
            "of others that rests on it."
        )
    costs = [cost for record in row.records for cost in (record.cost.train, record.cost.sample)]
    if all(map(has_equal_seconds, costs)):
        return ""
    return " Quality does not depend on that; seconds do, and speed that was measured so is not ranked."
