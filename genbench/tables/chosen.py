"""A layout of columns that are chosen by name: metrics and costs, in the order of the names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from genbench.metrics import metric_named, metrics
from genbench.records.record import Record
from genbench.records.slots import Slot, slot_of
from genbench.support.errors import BadInput, did_you_mean
from genbench.tables.columns import COSTS, slot_columns
from genbench.tables.groups import Group
from genbench.tables.layout import Column, Layout
from genbench.tables.layouts import CHOSEN

SHORT = {
    "fid": "fid_test", "kid": "kid_test", "is": "inception_score", "nll": "bits_per_dim_test",
    "bits_per_dim": "bits_per_dim_test", "seconds": "train_seconds", "params": "parameters", "memory": "peak_bytes",
    "samples_per_second": "images_per_second",
}  # fmt: skip
"""Shorter names, and what they stand for."""


def chosen_layout(names: Sequence[str], records: Iterable[Record]) -> Layout:
    """The layout of the columns of these names, each `METRIC`, `METRIC:EXTRACTOR`, a cost, or short for one.

    A metric has a column for each extractor that it was measured in the features of; one that was not measured is a
    column of dashes. The first metric orders the models. Raises BadInput for a name that nothing has, records'
    own metrics of plugins included.
    """
    measured = {slot_of(m, record.protocols) for record in records for m in record.measurements}
    slots = list(dict.fromkeys(_slot(name, measured) for name in names))

    def columns(group: Group) -> list[Column]:
        return [column for slot in slots for column in _columns(group, slot)]

    order = next((slot.metric for slot in slots if slot.metric not in COSTS), "")
    return Layout(CHOSEN, 0, columns, order=order)


def _slot(name: str, measured: set[Slot]) -> Slot:
    """What a name means. Raises BadInput if nothing."""
    word, _, extractor = name.partition(":")
    slot = Slot(SHORT.get(word, word), extractor)
    known = [*metrics(), *COSTS, *{own.metric for own in measured} - metrics().keys()]
    if slot.metric not in known:
        near = did_you_mean(word, {*known, *SHORT})
        every = f"{', '.join(sorted(known))}; for short {', '.join(sorted(SHORT))}"
        raise BadInput(f"--columns: no column {word!r}", f"{near} known: {every}" if "?" in near else f"known: {every}")
    if extractor and slot not in measured:
        own = ", ".join(sorted(str(one) for one in measured if one.metric == slot.metric)) or "none"
        raise BadInput(f"--columns: no run has {name!r}", f"measured: {own}")
    return slot


def _columns(group: Group, slot: Slot) -> list[Column]:
    if slot.metric in COSTS:
        heading, style, _ = COSTS[slot.metric]
        return [Column((slot,), heading, (style,))]
    found = [column for column in slot_columns(group, [slot.metric]) if slot.extractor in ("", column.extractor)]
    entry = metric_named(slot.metric)
    return found or [Column((slot,), entry.heading, (entry.style,), slot.metric, slot.extractor)]
