"""What layouts choose their columns from: metrics in the features of each extractor, likelihoods, and costs."""

from __future__ import annotations

from collections.abc import Iterable

from genbench.metrics import metric_named
from genbench.records.cost import SampleCost, TrainCost
from genbench.records.record import Record
from genbench.records.slots import Slot, sample_count
from genbench.tables.groups import Group, is_reference
from genbench.tables.layout import Column
from genbench.tables.limits import TEST, TRAIN
from genbench.tables.parts import COSTS_OF_PARTS, DAYS, NO_FACTOR, Read


def slot_columns(group: Group, metrics: Iterable[str]) -> list[Column]:
    """The columns of the given metrics: extractor by extractor within a metric, in the metrics' order."""
    slots = [slot for metric in metrics for slot in sorted(group.protocols) if slot.metric == metric]
    return [_slot_column(group, slot) for slot in slots]


def _slot_column(group: Group, slot: Slot) -> Column:
    """The column of one metric in one extractor's features, named with both and the sample count."""
    entry, count = metric_named(slot.metric), _sample_count(group, slot)
    better = next(view.slots[slot].better for view in group.views if slot in view.slots) if entry.ranked else None
    heading = entry.heading + (f"@{count}" if count else "") + (f" ({slot.extractor})" if slot.extractor else "")
    return Column((slot,), heading, (entry.style,), slot.metric, slot.extractor, better)


def _sample_count(group: Group, slot: Slot) -> int:
    """The number of generated images behind a slot's values, the same for every row; 0 if unknown or meaningless."""
    if not metric_named(slot.metric).of_samples:
        return 0
    counted = {view.slots[slot].count for view in group.views if slot in view.slots} - {0}
    return sample_count(group.settings_of(slot)) or (counted.pop() if len(counted) == 1 else 0)


def likelihood_column() -> Column:
    """Likelihoods of test images, and of training images in parentheses."""
    return Column((TEST, TRAIN), "NLL test (train)", ("bits", "bits"), TEST.metric, better="lower")


def open_cost(records: Iterable[Record]) -> str:
    """What training costs beside its budget: FLOPs if every model has as many seconds, else seconds."""
    budgets = [record.job.budget for record in records if not is_reference(record) and record.job.budget.amount]
    return "flops" if budgets and all(budget.is_timed for budget in budgets) else "train_seconds"


def throughputs(record: Record) -> list[tuple[int, float]]:
    """(batch, images per second) of every batch that was measured, that of the samples included, by batch."""
    sample = record.cost.sample
    if sample is None:
        return []
    others = [(rate.batch, rate.images_per_second) for rate in sample.throughput if rate.images_per_second is not None]
    return sorted([*others, (sample.batch, sample.images_per_second)])


def _of(part: str, name: str) -> Read:
    """Reads one number of `cost.train` or `cost.sample`; None if the record has no such part."""

    def read(record: Record) -> float | None:
        found = getattr(record.cost, part)
        return None if found is None else getattr(found, name)

    return read


def _joules(cost: TrainCost | SampleCost | None) -> float | None:
    return cost.energy.joules if cost and cost.energy else None


OF_RUN: dict[str, tuple[str, str, Read]] = {
    "parameters": ("parameters", "si", lambda r: r.cost.parameters),
    "train_seconds": ("training seconds", "seconds", _of("train", "seconds")),
    "device_seconds": ("training device-seconds", "seconds", _of("train", "device_seconds")),
    "flops": ("training FLOPs", "flops", _of("train", "flops")),
    "images": ("training images", "count", _of("train", "images")),
    "steps": ("training steps", "count", _of("train", "steps")),
    "peak_bytes": ("peak memory", "bytes", _of("train", "peak_bytes")),
    "images_per_second": ("samples/s", "rate", _of("sample", "images_per_second")),
    "images_per_second_1": ("samples/s at batch 1", "rate", lambda r: dict(throughputs(r)).get(1)),
    "images_per_second_best": (
        "samples/s at the best batch",
        "rate",
        lambda r: max((rate for _, rate in throughputs(r)), default=None),
    ),
    "sample_batch": ("sampling batch", "count", _of("sample", "batch")),
    "nfe": ("NFE per sample", "count", _of("sample", "nfe")),
    "train_joules": ("training energy, J", "rate", lambda r: _joules(r.cost.train)),
    "sample_joules": ("sampling energy, J", "rate", lambda r: _joules(r.cost.sample)),
    "clamped_share": ("clamped values", "share", lambda r: r.samples.clamped_share),
    "tuning_trials": ("tuning trials", "count", lambda r: r.tuning_trials),
}
"""What a record says of cost and samples: heading, style, and how to read it."""
COSTS = {**OF_RUN, **COSTS_OF_PARTS}
"""The same with what only the cost layout and tables beside published numbers have: the cost of each part."""
OF_SAMPLING = (
    "images_per_second", "images_per_second_1", "images_per_second_best", "sample_batch", "nfe", "sample_joules",
    "clamped_share",
)  # fmt: skip
"""What a model that draws no samples does not have."""
WITHOUT = {
    **dict.fromkeys((name for name in COSTS_OF_PARTS if name.endswith(DAYS)), NO_FACTOR),
    "train_joules": "not measured",
    "sample_joules": "not measured",
    "images_per_second_1": "not measured within the time allowed",
    "clamped_share": "drawn as levels, which need no clamping",
    "tuning_trials": "not reported",
}
"""Why a cost may be missing, other than that it was not counted."""
