"""Ranks with ties: which models of one column are better than which, and how that is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Literal

from genbench.tables.intervals import Interval, interval_over_seeds, mean_and_spread

LEAST_SEEDS = 6
"""From so many common seeds on, models are compared by a test; below, by their intervals."""
SIGNIFICANT = 0.05
Better = Literal["lower", "higher"]
Seed = tuple[int, int]
"""A training seed, and which of the runs of that seed it was (0 almost always)."""


@dataclass(frozen=True)
class Entrant:
    """A model in a column: by seed its value, None if the run gave none, and the 95 % interval within the run.

    `copies` says that the values are of samples that copy the dataset's images.
    """

    name: str
    values: Mapping[Seed, float | None]
    ranges: Mapping[Seed, Interval] = field(default_factory=dict)
    copies: bool = False

    @cached_property
    def measured(self) -> dict[Seed, float]:
        return {seed: value for seed, value in self.values.items() if value is not None}

    @property
    def whole(self) -> bool:
        """Whether each of its seeds has a value: none failed, diverged or was left without one."""
        return len(self.measured) == len(self.values) > 0

    @property
    def has_error(self) -> bool:
        """Whether anything is known of its error: from several seeds, or within the run of the one that has a value."""
        return len(self.measured) > 1 or bool(self.measured.keys() & self.ranges.keys())

    def interval(self, seeds: list[Seed]) -> Interval:
        """The 95 % interval over some of its seeds, at least one; of one that within the run, or the bare value."""
        if len(seeds) == 1:
            value = self.measured[seeds[0]]
            return self.ranges.get(seeds[0], (value, value))
        if len(seeds) == len(self.measured):
            return self._over_all
        return interval_over_seeds([self.measured[seed] for seed in seeds])

    @cached_property
    def _over_all(self) -> Interval:
        """Asked for by each of its rivals that has the same seeds."""
        return interval_over_seeds([self.measured[seed] for seed in sorted(self.measured)])


@dataclass(frozen=True)
class Pair:
    """The test of two models over their common seeds; `better` names the model that is significantly better, or none.

    `difference` is the mean of a - b; `p` is two-sided, `p_corrected` after Holm's correction.
    """

    a: str
    b: str
    seeds: int
    difference: float
    p: float
    p_corrected: float
    better: str = ""


def rank(entrants: list[Entrant], better: Better) -> tuple[dict[str, int], list[Pair]]:
    """The rank of every model that has a value, ties sharing the best one, and the pairs that were tested.

    1 + the number of whole models that are better. Two models of at least six common seeds are compared by the paired
    test, others by their intervals over the common seeds: better is the one whose interval lies entirely on the better
    side, which is no claim of significance. Failures never help:

    - A model one of whose seeds failed, diverged or has no value ranks after every whole model, since its mean is
      over the seeds that went well: all of these share the rank after the last whole one, and none is ranked 1.
    - A model that was not run with a seed for which another has a value cannot be ranked 1 either.
    - Models that copy share the rank after all that do not, whose ranks are those that they have among themselves;
      none of them is ranked 1.
    """
    honest = [entrant for entrant in entrants if not entrant.copies]
    whole = [entrant for entrant in honest if entrant.whole]
    asked = {seed for entrant in honest for seed in entrant.measured}
    pairs = list(_tested(whole, better, math.comb(len(honest), 2)))
    decided = {(pair.a, pair.b): pair.better for pair in pairs}
    beaten = dict.fromkeys((entrant.name for entrant in whole), 0)
    for a, b in combinations(whole, 2):
        winner = decided[a.name, b.name] if (a.name, b.name) in decided else _apart(a, b, better)
        for loser in {a.name, b.name} - {winner} if winner else ():
            beaten[loser] += 1
    ranks = {e.name: max(1 + beaten[e.name], 1 if asked <= e.values.keys() else 2) for e in whole}
    behind = max([1, len(whole), *ranks.values()]) + 1
    ranks |= {e.name: behind for e in honest if not e.whole and e.measured}
    last = max([1, len(ranks), *ranks.values()]) + 1
    return ranks | {e.name: last for e in entrants if e.copies and e.measured}, pairs


def without_error(entrants: list[Entrant]) -> set[str]:
    """The models of whose values no error is known while one is of another's: they cannot be compared with these.

    Only models that are compared count: whole ones that do not copy.
    """
    compared = [entrant for entrant in entrants if entrant.whole and not entrant.copies]
    bare = {entrant.name for entrant in compared if not entrant.has_error}
    return bare if len(bare) < len(compared) else set()


def difference(a: Entrant, b: Entrant) -> tuple[float, Interval | None]:
    """The mean of a - b with its 95 % interval, None if that is not known; both have a value.

    Over at least two common seeds that is Student's, of the paired differences. Of two single runs the intervals within
    them are combined, as those of independent errors; of other runs without common seeds nothing is known.
    """
    if len(seeds := _common(a, b)) > 1:
        differences = [a.measured[seed] - b.measured[seed] for seed in seeds]
        return mean_and_spread(differences)[0], interval_over_seeds(differences)
    (ours, own), (theirs, other) = (
        (mean_and_spread([*e.measured.values()])[0], next(iter(e.ranges.values()), None)) for e in (a, b)
    )
    apart = ours - theirs
    if own is None or other is None or len(a.measured) + len(b.measured) > 2:
        return apart, None
    below, above = math.hypot(ours - own[0], other[1] - theirs), math.hypot(own[1] - ours, theirs - other[0])
    return apart, (apart - below, apart + above)


def _common(a: Entrant, b: Entrant) -> list[Seed]:
    return sorted(a.measured.keys() & b.measured.keys())


def _apart(a: Entrant, b: Entrant, better: Better) -> str:
    """Which of two models has its interval over the common seeds entirely on the better side; "" if they overlap."""
    seeds = _common(a, b)
    if not seeds:
        return ""
    lower, upper = sorted((entrant.interval(seeds), entrant.name) for entrant in (a, b))
    if lower[0][1] >= upper[0][0]:
        return ""
    return lower[1] if better == "lower" else upper[1]


def _tested(whole: list[Entrant], better: Better, count: int) -> Iterator[Pair]:
    """The paired t-test of each two models that have enough common seeds.

    It is corrected for all `count` pairs of the column, those that could not be tested included, so that a failure
    makes no other difference significant.

    Not Wilcoxon's signed-rank test: over six seeds its smallest two-sided p is 2 / 2**6 = 0.031, which no correction
    for more than one pair leaves below 0.05, so that it could never tell six models apart. The t-test asks that the
    differences be roughly normal: they are of runs that differ in nothing but the seed, and of means over many images.
    """
    found = []
    for a, b in combinations(whole, 2):
        if len(seeds := _common(a, b)) >= LEAST_SEEDS:
            differences = [a.measured[seed] - b.measured[seed] for seed in seeds]
            found.append((a.name, b.name, len(seeds), math.fsum(differences) / len(seeds), paired_p(differences)))
    corrected = holm([p for *_, p in found], count)
    for (a_name, b_name, n, difference, p), p_corrected in zip(found, corrected):
        winner = a_name if (difference < 0) == (better == "lower") else b_name
        sure = p_corrected <= SIGNIFICANT and difference != 0
        yield Pair(a_name, b_name, n, difference, p, p_corrected, winner if sure else "")


def paired_p(differences: list[float]) -> float:
    """Two-sided p of the paired t-test: that the mean difference is 0 (`scipy.stats.ttest_1samp` of the differences).

    Differences that are all equal leave the test nothing to estimate a deviation from: 1 if they are 0, else 0.
    """
    from scipy.special import stdtr  # scipy.stats takes a second to import

    mean, spread = mean_and_spread(differences)
    if not spread or max(differences) == min(differences):
        return 1.0 if differences[0] == 0 else 0.0
    n = len(differences)
    return 2 * float(stdtr(n - 1, -abs(mean) / (spread / math.sqrt(n))))


def holm(p_values: list[float], count: int) -> list[float]:
    """The p-values corrected for `count` tests, of which they are those that were made, in the same order.

    Holm (1979), A Simple Sequentially Rejective Multiple Test Procedure: the k-th smallest of m is multiplied by
    m - k + 1, made monotone, and cut at 1. Tests that were not made stand as p = 1.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (count - place) * p_values[index]))
        corrected[index] = highest
    return corrected
