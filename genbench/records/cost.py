"""What a run took: seconds, FLOPs, memory and joules of training, sampling and scoring."""

from __future__ import annotations

from pydantic import Field, FiniteFloat

from genbench.records.stored import Stored
from genbench.records.usage import Usage


class Energy(Stored):
    """Joules, and what counted them."""

    joules: FiniteFloat
    source: str


class PhaseCost(Stored):
    """What one phase of a training took: images, updates, seconds and FLOPs.

    `part` says of what: the generator, a classifier that guides it, or its first stage; "" in records of earlier
    versions, which did not say.
    """

    seconds: FiniteFloat
    device_seconds: FiniteFloat | None = None
    images: int
    updates: int
    flops: FiniteFloat | None = None
    part: str = Field("", exclude_if=lambda part: not part)

    @property
    def spent(self) -> float:
        """Device-seconds, or seconds if a training of the plugin's own did not report these."""
        return self.seconds if self.device_seconds is None else self.device_seconds


class TrainCost(Stored):
    """The training itself, without scoring, checkpoints and preparation; `usage` is what it had of its machine.

    `trained_by` is the run whose training this is, if another row's weights were taken over: its cost is paid once.
    `v100_days` is a conversion that a reader asked for; it is never stored.
    """

    seconds: FiniteFloat
    device_seconds: FiniteFloat
    images: int | None = None
    steps: int | None = None
    flops: FiniteFloat | None = None
    uncounted_ops: list[str] = []
    peak_bytes: int | None = None
    peak_source: str = ""
    energy: Energy | None = None
    usage: Usage | None = Field(None, exclude_if=lambda usage: usage is None)
    phases: dict[str, PhaseCost] = {}
    trained_by: str = ""
    v100_days: FiniteFloat | None = Field(default=None, exclude=True)
    v100_basis: str = Field(default="", exclude=True)


class Throughput(Stored):
    """Images per second in calls of one batch; None with a note if the model could not draw such a batch."""

    batch: int
    images_per_second: FiniteFloat | None
    note: str = ""


class SampleCost(Stored):
    """Drawing the samples in calls of `batch` images, each with `nfe` network evaluations.

    `flops_per_image` includes gradients, and is None if nothing could be counted; `throughput` is what was measured
    with other batches.
    """

    seconds: FiniteFloat
    images: int
    images_per_second: FiniteFloat
    batch: int
    nfe: int
    flops_per_image: FiniteFloat | None = None
    throughput: list[Throughput] = []
    energy: Energy | None = None
    usage: Usage | None = Field(None, exclude_if=lambda usage: usage is None)


class EvaluateCost(Stored):
    """Scoring, which no budget includes; `curve_seconds` is for drawing and scoring the points of the curve."""

    seconds: FiniteFloat
    curve_seconds: FiniteFloat | None = None

    @classmethod
    def after(cls, before: EvaluateCost | None, seconds: float) -> EvaluateCost:
        """The cost of what was scored before, if anything was, and of so many seconds more."""
        before = before or cls(seconds=0.0)
        return before.model_copy(update={"seconds": before.seconds + seconds})


class Cost(Stored):
    """The number of parameters, also by phase, and what training, sampling and scoring took; None if not done."""

    parameters: int | None = None
    parameters_by_phase: dict[str, int] = {}
    train: TrainCost | None = None
    sample: SampleCost | None = None
    evaluate: EvaluateCost | None = None
