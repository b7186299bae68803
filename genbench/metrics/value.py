"""A number with its sampling error, or the reason why there is no number."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from genbench.records.record import ValueStatus


@dataclass(frozen=True)
class Value:
    """A number as a measurement stores it, or None with a status and a note.

    `stderr` and `interval` (95 %) are for another draw of as many images from the same model, against the same
    reference images. `deviation` is over the subsets or splits whose mean the number is; papers print it, but it is not
    an error.
    """

    value: float | None
    note: str = ""
    stderr: float | None = None
    status: ValueStatus = "ok"
    deviation: float | None = None
    interval: tuple[float, float] | None = None


def not_enough(note: str) -> Value:
    """No value, because there are too few images for one."""
    return Value(None, note, status="not_enough_samples")


def with_notes(value: Value, *notes: str) -> Value:
    """The value with more notes appended; empty ones are left out."""
    return replace(value, note="; ".join(note for note in (value.note, *notes) if note))


def with_error(
    value: Value, stderr: float, degrees: float = math.inf, low: float = -math.inf, high: float = math.inf
) -> Value:
    """The value with its standard error and the 95 % interval of Student's t, clipped to what is possible."""
    from scipy.stats import t

    if value.value is None:
        return value
    reach = float(t.ppf(0.975, degrees)) * stderr
    return replace(value, stderr=stderr, interval=(max(low, value.value - reach), min(high, value.value + reach)))


def share(count: int, total: int) -> Value:
    """A share of independent images: binomial standard error, and the exact interval of Clopper and Pearson (1934)."""
    from scipy.stats import binomtest

    part = count / total
    interval = binomtest(count, total).proportion_ci(0.95, method="exact")
    low, high = float(interval.low), float(interval.high)
    return Value(part, stderr=math.sqrt(part * (1 - part) / total), interval=(low, high))
