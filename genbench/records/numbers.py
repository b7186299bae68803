"""The numbers of a training and of its record by flat names, as experiment trackers take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genbench.records.point import is_finite
from genbench.records.record import Record
from genbench.records.slots import flatten, slot_of


def numbers_of_point(point: Mapping[str, Any]) -> dict[str, float]:
    """What a tracker draws of a point that `job_progress` gets: `train/loss`, `train/learning_rate`, `speed/...`."""
    found = {f"{point['phase']}/{name}": value for name, value in point["losses"].items()}
    if point["learning_rate"] is not None:
        found[f"{point['phase']}/learning_rate"] = point["learning_rate"]
    if point["seconds"]:
        found["speed/images_per_second"] = point["images"] / point["seconds"]
    return found


def numbers_of(record: Record) -> dict[str, float]:
    """`fid_test/EXTRACTOR/PROTOCOL` and the like for what was measured, `cost/train.seconds` and the like for its cost.

    What has no value is left out. The protocol is in the name since an FID under another one is another quantity.
    """
    measured = {
        "/".join(filter(None, (*slot_of(m, record.protocols), m.protocol[:8]))): m.value
        for m in record.measurements
        if m.value is not None
    }
    cost = flatten(record.cost.model_dump(mode="json"))
    return measured | {f"cost/{name}": value for name, value in cost.items() if is_finite(value)}


def images_of(record: Record) -> int:
    """The number of images that the training has seen; 0 if none is known, as for `real`, whose cost is None."""
    return (record.cost.train.images or 0) if record.cost.train else 0
