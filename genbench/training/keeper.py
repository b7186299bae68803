"""The averaged weights that a training keeps along its way, for a curve of quality against cost."""

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
    """`count` shares of the budget, equally far apart in their logarithms, from FIRST_SHARE to 1."""
    return [FIRST_SHARE ** ((count - 1 - i) / (count - 1)) for i in range(count - 1)] + [1.0] * (count > 0)


class Keeper:
    """What a training keeps: a folder of weights each time that it passes a share of the grid below 1.

    `kept` says of each point when it was, what it had cost and, in `waiting`, which phases had not begun: such a model
    cannot be sampled, and its weights are not kept. Where one step passes several shares there is one point.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count, self.passed = folder, count, 0
        self.kept: list[KeptPoint] = []

    def is_due(self, share: float) -> bool:
        """Whether a share of the grid has been reached, and the budget is not spent."""
        return self.passed < self.count and shares(self.count)[self.passed] <= share < 1

    def keep(self, share: float, model: Model, waiting: list[str], meter: Meter) -> None:
        """Keep the model as it would be sampled now; the clock stands still."""
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
        """What a checkpoint keeps."""
        return CurveState(count=self.count, passed=self.passed, kept=self.kept)

    def restore(self, state: CurveState | None) -> None:
        """Go on from a checkpoint, whose count stands; None begins anew. Weights that it does not know are removed."""
        state = state or CurveState(count=self.count)
        self.count, self.passed, self.kept = state.count, state.passed, list(state.kept)
        known = {str(point.point) for point in self.kept}
        for folder in self.folder.glob("*"):
            if folder.name not in known:
                store.remove(folder)


def plan_note(job: Job) -> str:
    """What the plan says of a curve that is asked for where a training has begun with another one, or none."""
    state = checkpoint.read_state(job.folder / "checkpoint") if job.curve else None
    if state is None:
        return f"a curve of {job.curve} points" if job.curve else ""
    count = state.curve.count
    if not count:
        return "no curve: its training began without one (remove the run folder to train again)"
    return f"a curve of {count} points" + (", as its training began" if count != job.curve else "")
