"""What a training cost by part: the generator, a classifier that guides it, and the first stage within the generator.

Published tables have a generator, a classifier and their sum, and leave the first stage out; here it is part of the
generator, since the budget pays for it, and told beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from genbench.records.cost import PhaseCost
from genbench.records.record import Record
from genbench.support.parts import CLASSIFIER, FIRST_STAGE, GENERATOR

APART: dict[str, str] = {CLASSIFIER: "no classifier guidance was used", FIRST_STAGE: "the model has no first stage"}
"""The parts that are told of beside the whole, each with why a model has none of it."""
UNTOLD = "run by a version that did not record which of its phases are a first stage"
NO_FACTOR = "no factor given for this device (--v100-factor)"
DAYS = "v100_days"
UNITS = {"device_seconds": ("device-seconds", "seconds"), "flops": ("FLOPs", "flops"), DAYS: ("V100-days", "days")}
"""Fields of `TrainCost`: in words, and how they are written."""
Read = Callable[[Record], float | None]


def phases_of(record: Record, part: str) -> dict[str, PhaseCost]:
    """The phases of a part, by name."""
    train = record.cost.train
    return {name: phase for name, phase in train.phases.items() if phase.part == part} if train else {}


def spent_on(record: Record, part: str, unit: str) -> float | None:
    """What the phases of a part took, in one of the UNITS; None if there are none, or if that was not counted."""
    train, phases = record.cost.train, phases_of(record, part).values()
    if train is None or not phases:
        return None
    if unit == "flops":
        known = [phase.flops for phase in phases if phase.flops is not None]
        return math.fsum(known) if len(known) == len(phases) else None
    seconds = math.fsum(phase.spent for phase in phases)
    if unit == DAYS:
        return train.v100_days * seconds / train.device_seconds if train.v100_days else None
    return seconds


def spent_without(record: Record, part: str, unit: str) -> float | None:
    """The whole training without the phases of a part."""
    whole: float | None = getattr(record.cost.train, unit, None)
    if whole is None or not phases_of(record, part):
        return whole
    own = spent_on(record, part, unit)
    return None if own is None else whole - own


def parameters_of(record: Record, part: str) -> int:
    """The number of parameters that the phases of a part move."""
    return sum(record.cost.parameters_by_phase.get(name, 0) for name in phases_of(record, part))


def lacking(metric: str, record: Record) -> str:
    """Why a record has no cost of the part that a metric is of; "" if it has one, or if the metric is of neither."""
    part = next((part for part in APART if metric.startswith(_word(part))), "")
    train = record.cost.train
    if not part or train is None or phases_of(record, part):
        return ""
    untold = len(train.phases) > 1 and not all(phase.part for phase in train.phases.values())
    return UNTOLD if untold and part == FIRST_STAGE else APART[part]


def _word(part: str) -> str:
    return part.replace(" ", "_")


_READERS: dict[str, Callable[[str], Read]] = {
    GENERATOR: lambda unit: lambda record: spent_without(record, CLASSIFIER, unit),
    CLASSIFIER: lambda unit: lambda record: spent_on(record, CLASSIFIER, unit),
    "overall": lambda unit: lambda record: getattr(record.cost.train, unit, None),
    _word(FIRST_STAGE): lambda unit: lambda record: spent_on(record, FIRST_STAGE, unit),
}
COSTS_OF_PARTS: dict[str, tuple[str, str, Read]] = {
    f"{who}_{unit}": (f"{who.replace('_', ' ')} {words}", style, read(unit))
    for who, read in _READERS.items()
    for unit, (words, style) in UNITS.items()
}
"""As in `genbench.tables.columns.COSTS`: heading, style, and how to read it."""
