"""Mean, deviation and 95 % confidence interval of a few seeds, or of one run."""

from __future__ import annotations

import math
from collections.abc import Sequence

Interval = tuple[float, float]
LEVEL = 0.95
NORMAL = 1.959963984540054
"""The two-sided 95 % point of the normal distribution: what a standard error is multiplied by."""


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (divided by n - 1; None of one value) of finite values, at least one."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))


def interval_over_seeds(values: Sequence[float]) -> Interval:
    """The 95 % interval of the mean of at least two independent values, by Student's t with n - 1 degrees of freedom.

    Two seeds give 12.7 standard errors to each side, three 4.3, six 2.6: few seeds say little.
    """
    from scipy.special import stdtrit

    mean, spread = mean_and_spread(values)
    if spread is None:
        raise ValueError("one value has no interval over seeds")
    half = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2)) * spread / math.sqrt(len(values))
    return mean - half, mean + half


def interval_in_run(value: float, stderr: float | None, interval: Interval | None) -> Interval | None:
    """The measurement's own 95 % interval, or 1.96 of its standard errors to each side; None if it has neither."""
    if interval is not None or stderr is None:
        return interval
    return value - NORMAL * stderr, value + NORMAL * stderr
