"""A point of a learning curve: how far a training was, and its losses since the point before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

LOG = "progress.jsonl"
"""The learning curve in a run folder, a line per point."""


@dataclass(frozen=True)
class Point:
    """How far a training was, and the means of one phase's losses since the point before.

    `step`, `images` and `seconds` count all phases and attempts together, without what no budget includes. `share` is
    that of the budget, in [0, 1]. `losses` has `loss`, the one that is minimised, and the model's others by name.
    `learning_rate` is None if a plugin's own training does not tell it.
    """

    step: int
    images: int
    seconds: float
    share: float
    phase: str
    learning_rate: float | None
    losses: Mapping[str, float]

    def as_line(self) -> dict[str, Any]:
        """The point as a line of progress.jsonl: losses beside the rest, without numbers that are not finite."""
        line = {
            "step": self.step, "images": self.images, "seconds": round(self.seconds, 3), "phase": self.phase,
            "learning_rate": self.learning_rate, **self.losses,
        }  # fmt: skip
        return {key: value for key, value in line.items() if isinstance(value, str) or is_finite(value)}

    def as_dict(self) -> dict[str, Any]:
        """The point as plain data of the caller's own, for the hook `job_progress`."""
        losses = {name: value for name, value in self.losses.items() if is_finite(value)}
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"losses": losses}


FIELDS = frozenset(field.name for field in fields(Point)) - {"share", "losses"}
"""What a line of progress.jsonl has besides losses; no loss may have such a name."""


def losses_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The losses in a line of progress.jsonl, by name, as far as they are finite."""
    return {name: value for name, value in line.items() if name not in FIELDS and is_finite(value)}


def is_finite(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)
