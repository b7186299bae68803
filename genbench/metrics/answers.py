"""How samples answer what they were given: beside the image that it was made of, and beside each other.

Measured by `genbench.evaluate.answers`. Distances are root mean squares over the values that were not shown, in levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from genbench.metrics.metric import Metric
from genbench.metrics.pieces import in_pieces
from genbench.metrics.value import Value, mean_of, one_of_each, with_error_of

ENERGY, HOLE_PSNR, PSNR, SPREAD, DISPERSION, SPREAD_RATIO, KNOWN, SEAM, CONSISTENCY = (
    "energy_score", "hole_psnr", "answer_psnr", "spread", "dispersion", "spread_ratio", "known_pixel_error", "seam",
    "consistency",
)  # fmt: skip


@dataclass(frozen=True)
class Answers:
    """K samples of each of M conditions, (M, K, D), the images that these were made of, (M, D), and what is hidden.

    `hidden`, bool (M, D), are the values that were not shown; where nothing was shown as it is, all of them. `places`
    (M,) tell which conditions are the same, so that errors are over different ones; None: all differ.
    """

    samples: np.ndarray
    originals: np.ndarray
    hidden: np.ndarray
    places: np.ndarray | None = None

    def distances(self, here: np.ndarray, there: np.ndarray, where: np.ndarray) -> np.ndarray:
        """The root mean square difference (M,) of two images (M, D) of each condition, over the values `where`."""
        squares = in_pieces(lambda x, y, seen: (seen * np.square(x - y)).sum(1), here, there, where)
        found: np.ndarray = np.sqrt(squares / np.maximum(where.sum(1), 1))
        return found

    @cached_property
    def errors(self) -> np.ndarray:
        """The distance of each sample from the original, (M, K)."""
        return self.to_originals(self.hidden)

    def to_originals(self, where: np.ndarray) -> np.ndarray:
        """The distance of each sample from the original over the values `where`, (M, K)."""
        each = range(self.samples.shape[1])
        return np.stack([self.distances(self.samples[:, k], self.originals, where) for k in each], axis=1)

    @cached_property
    def apart(self) -> np.ndarray:
        """The distance of each pair of samples, (M, K (K - 1) / 2)."""
        pairs = combinations(range(self.samples.shape[1]), 2)
        found = [self.distances(self.samples[:, i], self.samples[:, j], self.hidden) for i, j in pairs]
        return np.stack(found, axis=1) if found else np.empty((len(self.samples), 0))

    def psnr(self) -> Value:
        """10 log10(255^2 / MSE), dB, of the mean squared error over all conditions."""
        squares = np.square(self.errors).mean(1)
        if not squares.any():
            return Value(None, "the samples are the originals: infinite", status="not_applicable")
        value = Value(10 * math.log10(255**2 / squares.mean()))
        return self._with_error(value, squares * (10 / math.log(10) / squares.mean()))

    def energy_score(self) -> Value:
        """E |X - y| - E |X - X'| / 2, with the pairs of different samples: lowest if X is distributed as y is.

        Source: Gneiting & Raftery 2007, equation 21, beta = 1.
        """
        if not self.apart.size:
            return Value(None, "one sample of each condition", status="not_applicable")
        return self._mean(self.errors.mean(1) - self.apart.mean(1) / 2)

    def spread(self, known: np.ndarray | None = None) -> dict[str, Value]:
        """The root mean square distance of two samples of a condition, levels; over that of the original, and `known`.

        Samples that are distributed as the original is are as far from each other as from it: the ratio is 1, below 1
        if they differ too little, and 0 if there is one answer. `known` (M,) are the mean squares of that distance
        for samples from the exact distribution.
        """
        if not self.apart.size:
            few = Value(None, "one sample of each condition", status="not_applicable")
            return {SPREAD: few, DISPERSION: few}
        squares, errors = np.square(self.apart).mean(1), np.square(self.errors).mean(1)
        root = math.sqrt(squares.mean())
        change = squares / (2 * root) if root else squares
        found = {SPREAD: self._with_error(Value(root), change)}
        for name, others in ((DISPERSION, errors), (SPREAD_RATIO, known)):
            if others is not None and others.any():
                other = math.sqrt(others.mean())
                ratio = Value(root / other)
                found[name] = self._with_error(ratio, change / other - root * others / (2 * other**3))
        return found

    def known_pixel_error(self) -> Value:
        """The distance from the original over the values that were shown, levels: 0 if they were kept."""
        return self._mean(self.to_originals(~self.hidden).mean(1))

    def consistency(self, small: Callable[[np.ndarray], np.ndarray], given: np.ndarray) -> Value:
        """The root mean square difference, levels, of samples made `small`, (M, D) to (M, S), from small images (M, S).

        These were made in another way if the originals do not give them.
        """
        if (small(self.originals) != given).any():
            return Value(None, "the small images were made in another way", status="not_applicable")
        each = range(self.samples.shape[1])
        squares = np.stack([np.square(small(self.samples[:, k]) - given).mean(1) for k in each], axis=1)
        return self._mean(np.sqrt(squares).mean(1))

    def _mean(self, values: np.ndarray) -> Value:
        """The mean over conditions of values (M,), with its error."""
        return mean_of(one_of_each(values, self.places))

    def _with_error(self, value: Value, values: np.ndarray) -> Value:
        """A value that changes as the mean over conditions of values (M,) does, with its error."""
        return with_error_of(value, one_of_each(values, self.places))


def seam(samples: np.ndarray, originals: np.ndarray, hidden: np.ndarray, places: np.ndarray | None = None) -> Value:
    """How much larger differences across the edge of a hole are than those of the originals, once these are pasted.

    It is the ratio of root mean squares over neighbouring pixels of which one is hidden: 1 if samples (M, K, C, H, W)
    go on as the originals (M, C, H, W) do, more if one sees where the hole, bool (M, C, H, W), was. `places` (M,) tell
    which conditions are the same.
    """
    squares, real = in_pieces(_across, samples, originals, hidden).T
    if not real.any():
        return Value(None, "no differences across the edges of holes", status="not_applicable")
    ratio = math.sqrt(squares.mean() / real.mean())
    change = squares / (2 * ratio * real.mean()) - ratio * real / (2 * real.mean()) if ratio else squares
    return with_error_of(Value(ratio), one_of_each(change, places))


def _across(samples: np.ndarray, originals: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The summed squares of differences across edges, (M, 2): the mean over pasted samples, and of the originals."""
    pasted = np.where(hidden[:, None] > 0, samples, originals[:, None])
    found = np.zeros((len(samples), 2))
    for axis in (-1, -2):
        edge = np.abs(np.diff(hidden, axis=axis))
        found[:, 0] += (np.square(np.diff(pasted, axis=axis)) * edge[:, None]).mean(1).sum((1, 2, 3))
        found[:, 1] += (np.square(np.diff(originals, axis=axis)) * edge).sum((1, 2, 3))
    return found


METRICS = (
    Metric(ENERGY, "energy score", style="score", split="test", family="answers",
           places={"headline": 1, "condition": 1, "full": 60}),
    Metric(HOLE_PSNR, "PSNR in the hole, dB", "higher", "score", "test", "answers", ranked=False,
           places={"condition": 2, "full": 61}),
    Metric(PSNR, "answer PSNR, dB", "higher", "score", "test", "answers", ranked=False,
           places={"condition": 2, "full": 61}),
    Metric(SPREAD, "spread", "higher", "score", "test", "answers", ranked=False, places={"condition": 3, "full": 62}),
    Metric(DISPERSION, "spread / error", "higher", "share", "test", "answers", ranked=False,
           places={"condition": 4, "full": 63}),
    Metric(SPREAD_RATIO, "spread / known", "higher", "share", "test", "answers", ranked=False,
           places={"condition": 5, "full": 64}),
    Metric(KNOWN, "known error", style="score", split="test", family="answers", places={"condition": 6, "full": 65}),
    Metric(SEAM, "seam / real", style="share", split="test", family="answers", ranked=False,
           places={"condition": 7, "full": 66}),
    Metric(CONSISTENCY, "consistency", style="score", split="test", family="answers",
           places={"condition": 8, "full": 66}),
)  # fmt: skip
