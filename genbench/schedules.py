"""Stateless learning-rate schedules: progress in [0, 1] in, factor out."""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal


def warmup_cosine(progress: float, warmup: float = 0.02, floor: float = 0.01) -> float:
    """Linear warm-up over the first `warmup` of the span, then half a cosine down to `floor` (Loshchilov 2017)."""
    if progress < warmup:
        return max(progress / warmup, 0.01)
    rest = (progress - warmup) / (1 - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))


def warmup_linear(progress: float, warmup: float = 0.02, floor: float = 0.05) -> float:
    """Linear warm-up over the first `warmup` of the span, then linear decay to `floor`."""
    if progress < warmup:
        return max(progress / warmup, 0.01)
    return floor + (1 - floor) * (1 - min((progress - warmup) / (1 - warmup), 1.0))


def warmup_constant(progress: float, warmup: float = 0.02) -> float:
    """Linear warm-up over the first `warmup` of the span, then 1."""
    return max(progress / warmup, 0.01) if progress < warmup else 1.0


def annealed(how: Literal["cosine", "constant"], warmup: int) -> Callable[[float], float]:
    """The schedule for a phase with this `Phase.warmup`; if that is 0, the first 2 % of the span warm up instead."""
    schedule = {"cosine": warmup_cosine, "constant": warmup_constant}[how]
    return partial(schedule, warmup=0.0) if warmup else schedule


def part_of(schedule: Callable[[float], float], begin: float, end: float) -> Callable[[float], float]:
    """The course of a schedule between two shares of its span, for one of several phases of one optimizer."""
    return lambda progress: schedule(begin + (end - begin) * progress)
