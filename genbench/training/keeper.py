"""Averaged weights kept during training, for a curve of quality against cost."""

from __future__ import annotations

from pathlib import Path

from genbench.metering.meter import Meter
from genbench.model import Model
from genbench.records import checkpoint
from genbench.records.job import Job
from genbench.records.training_state import CurveState, KeptPoint
from genbench.support import store
from genbench.support.faults import fault

FIRST_SHARE = 0.01


def shares(count: int) -> list[float]:
    """`count` shares of the budget, logarithmically spaced from FIRST_SHARE to 1."""
    return [FIRST_SHARE ** ((count - 1 - i) / (count - 1)) for i in range(count - 1)] + [1.0] * (count > 0)


class Keeper:
    """Keeps a folder of weights each time that training passes a share of the grid below 1.

    `kept` has each point's share and cost and, in `waiting`, the phases that had not begun: such a model cannot be
    sampled, and its weights are not kept. A step that passes several shares makes one point.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count, self.passed = folder, count, 0
        self.kept: list[KeptPoint] = []

    def is_due(self, share: float) -> bool:
        """Whether a share of the grid has been reached before the budget is spent."""
        return self.passed < self.count and shares(self.count)[self.passed] <= share < 1

    def keep(self, share: float, model: Model, waiting: list[str], meter: Meter) -> None:
        """Keep the model as it would be sampled now; call with the clock paused."""
        self.passed = sum(point <= share for point in shares(self.count))
        if not waiting:
            checkpoint.write(self.folder / str(self.passed), {"ema": model.state_dict()}, {"share": share})
        fault("train.kept")
        self.kept.append(
            KeptPoint(
                point=self.passed, share=share, seconds=meter.seconds, device_seconds=meter.device_seconds,
                images=meter.images, steps=meter.steps, flops=meter.flops, waiting=waiting,
            )
        )  # fmt: skip

    def state(self) -> CurveState:
        """The state that a checkpoint stores."""
        return CurveState(count=self.count, passed=self.passed, kept=self.kept)

    def restore(self, state: CurveState | None) -> None:
        """Resume from a checkpoint, whose count applies; None starts over. Removes weights that it does not list."""
        state = state or CurveState(count=self.count)
        self.count, self.passed, self.kept = state.count, state.passed, list(state.kept)
        known = {str(point.point) for point in self.kept}
        for folder in self.folder.glob("*"):
            if folder.name not in known:
                store.remove(folder)


def plan_note(job: Job) -> str:
    """The plan's note on the curve: training that has begun keeps the curve, or none, that it began with."""
    state = checkpoint.read_state(job.folder / "checkpoint") if job.curve else None
    if state is None:
        return f"a curve of {job.curve} points" if job.curve else ""
    count = state.curve.count
    if not count:
        return "no curve: its training began without one (remove the run folder to train again)"
    return f"a curve of {count} points" + (", as its training began" if count != job.curve else "")
