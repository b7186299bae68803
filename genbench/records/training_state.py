"""What a checkpoint records besides its tensors: how far a training was, and what it had cost."""

from __future__ import annotations

from pydantic import BaseModel

from genbench.records.cost import Energy
from genbench.records.usage import Usage


class Ledger(BaseModel):
    """What one phase has cost so far."""

    seconds: float = 0.0
    device_seconds: float = 0.0
    images: int = 0
    updates: int = 0
    flops: float = 0.0


class MeterState(BaseModel):
    """What a training had cost, so that a resumed one counts all its segments."""

    seconds: float = 0.0
    device_seconds: float = 0.0
    processes: int = 1
    elsewhere: bool = False
    steps: int = 0
    peak_bytes: int = 0
    peak_source: str = ""
    uncounted_ops: list[str] = []
    energy: Energy | None = None
    usage: Usage | None = None
    phases: dict[str, Ledger] = {}


class KeptPoint(BaseModel):
    """Weights kept during a training: when, what it had cost, and which phases had not begun."""

    point: int
    share: float
    seconds: float
    device_seconds: float
    images: int
    steps: int
    flops: float
    waiting: list[str] = []


class CurveState(BaseModel):
    """The points of a curve kept so far; `passed` counts the shares of its grid of `count` that are over."""

    count: int = 0
    passed: int = 0
    kept: list[KeptPoint] = []


class TrainingState(BaseModel):
    """The state of a training; only `meter` and `finished` if a plugin trains with its own loop.

    `logged` is the last point of the learning curve, `log` the digest of its file, `started` and `ended` are phases,
    `totals` the losses since that point by "phase.name", None where one was not finite. `averages` counts the steps of
    each optimizer's average, by its first phase; `settled` says that the averaged weights are final.
    """

    job: str = ""
    meter: MeterState = MeterState()
    finished: bool = False
    logged: int = -1
    started: list[str] = []
    ended: list[str] = []
    settled: bool = False
    log: str = ""
    phase_steps: dict[str, int] = {}
    averages: dict[str, int] = {}
    learning_rates: dict[str, float] = {}
    flops_per_update: dict[str, float] = {}
    totals: dict[str, list[float | None]] = {}
    curve: CurveState = CurveState()
