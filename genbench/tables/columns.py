"""The columns of the published layouts: what stands in each, how it is headed, and which way is better."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from genbench.records.record import Record, SampleCost, TrainCost
from genbench.tables.groups import Group, Slot, is_likelihood, is_reference, sample_count, slot_key
from genbench.tables.layout import Column
from genbench.tables.limits import ELBO, GAP, KIND, LIMIT, PARTS, TEST, TRAIN, entropy_of

SHORT = {
    "inception_score": "IS", "fid_test": "FID test", "fid_train": "FID train", "kid_test": "KID test",
    "kid_train": "KID train", "bits_per_dim_test": "NLL test", "bits_per_dim_train": "NLL train",
    "bits_per_dim_elbo_test": "ELBO test", "bits_per_dim_elbo_train": "ELBO train",
    "class_tv": "class TV", "memorised_share": "memorised", "fid_test_infinity": "FID-infinity test",
}  # fmt: skip
"""Metrics as tables head them, where the metric's own name will not do."""
STYLES = {"inception_score": "score", "fid": "fid", "kid": "kid", "bits_per_dim": "bits"}
QUALITY = ("inception_score", "fid_test", "fid_train")
COST = ("fid_test", "inception_score", "precision", "recall")
FULL = (
    "inception_score",
    "fid_test",
    "fid_train",
    "kid_test",
    "kid_train",
    "precision",
    "recall",
    "density",
    "coverage",
    "class_coverage",
    "class_tv",
    "memorised_share",
    "fid_test_infinity",
)


def short_name(metric: str) -> str:
    return SHORT.get(metric, metric.replace("_", " "))


def _slots(group: Group, metrics: Iterable[str]) -> list[Slot]:
    """The group's slots of the given metrics: extractor by extractor within a metric, in the metrics' order."""
    return [key for metric in metrics for key in sorted(group.protocols) if key[0] == metric]


def slot_count(group: Group, key: Slot) -> int:
    """The number of generated images behind a slot's values, the same for every row; 0 where unknown or meaningless."""
    if is_likelihood(key[0]):
        return 0
    counted = {view.slots[key].count for view in group.views if key in view.slots} - {0}
    return sample_count(group.settings_of(key)) or (counted.pop() if len(counted) == 1 else 0)


def slot_column(group: Group, key: Slot) -> Column:
    """The column of one metric in one extractor's features, named with both and the sample count."""
    metric, extractor = key
    better = next(view.slots[key].better for view in group.views if key in view.slots)
    count = slot_count(group, key)
    heading = short_name(metric) + (f"@{count}" if count else "") + (f" ({extractor})" if extractor else "")
    style = next((style for prefix, style in STYLES.items() if metric.startswith(prefix)), "share")
    return Column((slot_key(key),), heading, (style,), metric, extractor, better)


def _likelihood_column() -> Column:
    return Column((TEST, TRAIN), "NLL test (train)", ("bits", "bits"), TEST, better="lower")


def _likelihood_columns(group: Group) -> list[Column]:
    """Limit, likelihood, gap, ELBO and parts; limit and gap where the entropy is known, ELBO and parts where any is."""
    known = entropy_of(group) is not None
    parts = any(m.parts for view in group.views for (metric, _), m in view.slots.items() if metric in (TEST, ELBO))
    return [
        *([Column((LIMIT,), "limit, bits/dim", ("bits",))] if known else []),
        _likelihood_column(),
        Column((KIND,), "kind", ("text",)),
        *([Column((GAP,), "gap to the limit", ("bits",))] if known else []),
        *(slot_column(group, key) for key in _slots(group, [ELBO])),
        *([Column((PARTS,), "parts, bits/dim", ("text",))] if parts else []),
    ]


def _quality_columns(group: Group) -> list[Column]:
    return [*(slot_column(group, key) for key in _slots(group, QUALITY)), _likelihood_column()]


def _cost_columns(group: Group) -> list[Column]:
    devices = {record.environment.device.split(":")[0] for record in group.records if not is_reference(record)}
    return [
        Column(("device_seconds", "flops"), "generator compute, device-seconds (FLOPs)", ("seconds", "flops")),
        Column(("classifier_device_seconds",), "classifier compute", ("seconds",)),
        Column(("overall_device_seconds", "overall_flops"), "overall, device-seconds (FLOPs)", ("seconds", "flops")),
        Column(("overall_v100_days",), "overall, V100-days", ("days",)),
        Column(("images_per_second",), "samples/s", ("rate",), better="higher" if len(devices) == 1 else None),
        Column(("parameters",), "parameters", ("si",)),
        *(slot_column(group, key) for key in _slots(group, COST)),
    ]  # fmt: skip


def _full_columns(group: Group) -> list[Column]:
    known = [*FULL, "bits_per_dim_test", "bits_per_dim_train"]
    others = sorted({metric for metric, _ in group.protocols} - set(known))
    return [
        *(slot_column(group, key) for key in _slots(group, [*known, *others])),
        *(Column((key,), heading, (style,)) for key, (heading, style, _) in COSTS.items() if key not in OVERALL),
    ]  # fmt: skip


def throughputs(record: Record) -> list[tuple[int, float]]:
    """(batch, images a second) of every batch that was measured, that of the samples included, by batch."""
    sample = record.cost.sample
    if sample is None:
        return []
    others = [(rate.batch, rate.images_per_second) for rate in sample.throughput if rate.images_per_second is not None]
    return sorted([*others, (sample.batch, sample.images_per_second)])


def _of(part: str, name: str) -> Callable[[Record], float | None]:
    """Reads one number of `cost.train` or `cost.sample`; None where the record has no such part."""

    def read(record: Record) -> float | None:
        found = getattr(record.cost, part)
        return None if found is None else getattr(found, name)

    return read


def _joules(cost: TrainCost | SampleCost | None) -> float | None:
    return cost.energy.joules if cost and cost.energy else None


COLUMNS: dict[str, Callable[[Group], list[Column]]] = {
    "quality": _quality_columns,
    "cost": _cost_columns,
    "full": _full_columns,
    "likelihood": _likelihood_columns,
}

COSTS: dict[str, tuple[str, str, Callable[[Record], float | None]]] = {
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
    "classifier_device_seconds": ("classifier device-seconds", "seconds", lambda r: None),
    "overall_device_seconds": ("overall device-seconds", "seconds", _of("train", "device_seconds")),
    "overall_flops": ("overall FLOPs", "flops", _of("train", "flops")),
    "overall_v100_days": ("overall V100-days", "days", _of("train", "v100_days")),
}
"""What a record says of cost and samples: heading, style, and how to read it."""
OVERALL = ("classifier_device_seconds", "overall_device_seconds", "overall_flops", "overall_v100_days")
"""What only the cost layout has: its classifier column, and the sum."""
WITHOUT = {
    "overall_v100_days": "no factor given for this device (--v100-factor)",
    "train_joules": "not measured: the hardware does not tell its energy",
    "sample_joules": "not measured: the hardware does not tell its energy",
    "images_per_second_1": "not measured within the time that is allowed for it",
    "clamped_share": "made of levels, which need no clamping",
    "tuning_trials": "not told",
}
"""Why a cost may be missing, where that is not that it was not counted."""
