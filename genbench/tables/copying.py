"""Whether a run's samples copy images, and rows that tell what copying is worth."""

from __future__ import annotations

from collections.abc import Iterable

from genbench.metrics import metric_named
from genbench.metrics.copies import WORDS
from genbench.metrics.copies import copying as words_of
from genbench.metrics.memorisation import MEMORISED
from genbench.metrics.value import above_real, percent
from genbench.records.record import Record
from genbench.tables.groups import Group, is_reference
from genbench.tables.layout import Column, Row


def copying(record: Record) -> str:
    """What a run's samples copy, as a sentence without its full stop; "" if no more than real images do, or unknown.

    True of a model, and of samples made elsewhere, whose share of copies of training or test images has its 95 %
    interval above that of real images. Not of a reference row, which is ranked with nothing.
    """
    return "" if is_reference(record) else words_of(record.measurements)


def memorising(record: Record) -> str:
    """How much more of the samples than of real images is memorised, in features; "" if not more."""
    found = [m for m in record.measurements if m.metric == MEMORISED and m.value is not None and above_real(m)]
    if not found or is_reference(record):
        return ""
    most = max(found, key=lambda m: m.value or 0.0)
    return (
        f"{percent(most.value or 0.0)} of the samples are as near to a training image, in features, as "
        f"{percent(most.parts['real'])} of real images are"
    )


def telling(group: Group, metrics: Iterable[str]) -> list[str]:
    """The metrics, without those that are ranked by nothing if no model's value is above that of real images."""
    models = [view for view in group.views if not is_reference(view.record)]
    above = {slot.metric for view in models for slot, m in view.slots.items() if above_real(m)}
    return [name for name in metrics if metric_named(name).ranked or name in above]


def without_copies(rows: list[Row], columns: Iterable[Column]) -> list[Row]:
    """The rows, without `copies` if no column says what is copied."""
    told = any(column.metric in (MEMORISED, *WORDS) for column in columns)
    return rows if told else [row for row in rows if row.kind != "copies"]
