"""A number with its sampling error, or the reason why there is no number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from genbench.records.record import Measurement, ValueStatus

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Value:
    """A number as a measurement stores it, or None with a status and a note.

    `stderr` and `interval` (95 %) are for another draw of as many images from the same model, against the same
    reference images. `deviation` is over the subsets or splits whose mean the number is; papers print it, but it is not
    an error. `parts` are further numbers by name.
    """

    value: float | None
    note: str = ""
    stderr: float | None = None
    status: ValueStatus = "ok"
    deviation: float | None = None
    interval: tuple[float, float] | None = None
    parts: Mapping[str, float] = field(default_factory=dict)

    def with_parts(self, **parts: float) -> Value:
        """The value with more parts."""
        return replace(self, parts={**self.parts, **parts})


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
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    if value.value is None:
        return value
    reach = float(stdtrit(degrees, 0.975)) * stderr
    return replace(value, stderr=stderr, interval=(max(low, value.value - reach), min(high, value.value + reach)))


def with_error_of(value: Value, values: np.ndarray) -> Value:
    """The value with the error of the mean of independent values (N,), if there are several."""
    count = len(values)
    return with_error(value, float(values.std(ddof=1)) / math.sqrt(count), count - 1) if count > 1 else value


def mean_of(values: np.ndarray) -> Value:
    """The mean of independent values (N,), with its error if there are several."""
    return with_error_of(Value(float(values.mean())), values)


def summed(values: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """The sum of the values (N, ...) of each of the `groups` (N,); without groups, the values."""
    import numpy as np

    if groups is None:
        return values
    members = np.unique(groups, return_inverse=True)[1]
    found = np.zeros((members.max() + 1, *values.shape[1:]), values.dtype)
    np.add.at(found, members, values)
    return found


def one_of_each(values: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Values (N,) of which those of one group are not independent, as one of each group, with the same mean.

    The error of their mean is that of the mean of the values (Liang & Zeger 1986). No groups: all are independent.
    """
    if groups is None:
        return values
    deviations = summed(values - values.mean(), groups)
    found: np.ndarray = values.mean() + deviations * (len(deviations) / len(values))
    return found


def share(count: int, total: int) -> Value:
    """A share of independent images: binomial standard error, and the exact interval of Clopper and Pearson (1934)."""
    from scipy.special import betaincinv

    part = count / total
    low = float(betaincinv(count, total - count + 1, 0.025)) if count else 0.0
    high = float(betaincinv(count + 1, total - count, 0.975)) if count < total else 1.0
    return Value(part, stderr=math.sqrt(part * (1 - part) / total), interval=(low, high))


def of_real(value: Value, count: int, total: int) -> Value:
    """A share with that of real images, `count` of `total`, as parts: `real`, and the end of its interval, `real_high`.

    Only a share above it says something.
    """
    real = share(count, total)
    assert real.value is not None and real.interval is not None
    return value.with_parts(real=real.value, real_high=real.interval[1])


def above(value: Value, other: Value) -> bool:
    """Whether the interval of one value lies above that of the other."""
    return bool(value.interval and other.interval and value.interval[0] > other.interval[1])


def above_real(found: Measurement) -> bool:
    """Whether a share's interval lies above that of real images; false if it does not say how they score."""
    return found.interval is not None and found.interval[0] > found.parts.get("real_high", math.inf)


def percent(part: float) -> str:
    """A share in words: `71 %`, `0.4 %`."""
    return f"{100 * part:.2g} %" if part < 0.995 else f"{100 * part:.3g} %"
