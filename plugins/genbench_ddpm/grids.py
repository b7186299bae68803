"""The times at which a sampler in few steps asks the network: T = t_0 > t_1 > ... > t_N = 0.

Each grid is one entry of `GRIDS`: what should be evenly spaced. The times of a process are whole numbers, so each is
the nearest one that keeps the order.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

LARGEST = 40.0
"""sigma / alpha above which x_t counts as noise alone: a grid that is even in a function of it treats T as there.

Of a process that ends in next to no signal, as that of the cosine, it would be half of the steps otherwise. Karras et
al. 2022 (table 1) have 80, from where 12 steps to digits have a higher FID than from 20, 30 or 40.
"""

Levels = Sequence[float]
"""lambda_t = log(alpha_t / sigma_t) at t = 0..T, falling from infinity at 0."""
Places = Callable[[Levels, int, int], list[float]]
"""(levels, T, N) -> N times from T down to 1, not yet whole numbers nor all different."""


def time_at(levels: Levels, level: float, total: int) -> int:
    """The time in 1..`total` whose lambda is nearest to `level`."""
    after = bisect_left(levels, -level, 1, total, key=lambda value: -value)
    return min((t for t in (after - 1, after) if t >= 1), key=lambda t: abs(levels[t] - level))


def spaced(to: Callable[[float], float], back: Callable[[float], float]) -> Places:
    """Times at which `to` of lambda is evenly spaced, from that of `LARGEST` or of T, if it is larger, to that of 1."""

    def places(levels: Levels, total: int, steps: int) -> list[float]:
        first, last = to(max(levels[total], -math.log(LARGEST))), to(levels[1])
        inner = [back(first + (last - first) * k / (steps - 1)) for k in range(1, steps)]
        return [total, *(time_at(levels, level, total) for level in inner)]

    return places


def in_time(levels: Levels, total: int, steps: int) -> list[float]:
    """See `GRIDS`."""
    return [total * k / steps for k in range(steps, 0, -1)]


def in_root_of_time(levels: Levels, total: int, steps: int) -> list[float]:
    """See `GRIDS`."""
    return [total * (k / steps) ** 2 for k in range(steps, 0, -1)]


RHO = 7


@dataclass(frozen=True)
class Grid:
    """What is evenly spaced, in a few words, and the times at which it is."""

    about: str
    places: Places


GRIDS = {
    "time": Grid("t", in_time),
    "quadratic": Grid("the root of t (Song et al. 2021)", in_root_of_time),
    "log_snr": Grid("log(alpha / sigma) (Lu et al. 2022)", spaced(lambda level: level, lambda level: level)),
    "karras": Grid(
        f"(sigma / alpha)^(1/{RHO}) (Karras et al. 2022)",
        spaced(lambda level: math.exp(-level / RHO), lambda root: -RHO * math.log(root)),
    ),
}
if TYPE_CHECKING:
    GridName = str
else:
    GridName = Literal[tuple(GRIDS)]
ABOUT_GRIDS = "what the times are even in: " + "; ".join(f"{name}, {grid.about}" for name, grid in GRIDS.items())


def grid_times(grid: str, levels: Levels, total: int, steps: int) -> list[int]:
    """`steps` times from T = `total` down, or all if there are fewer, followed by 0, spaced as `grid` says."""
    steps = min(steps, total)
    times, after = [0], 0
    for k, place in enumerate(reversed(GRIDS[grid].places(levels, total, steps))):
        after = min(max(round(place), after + 1), total - (steps - 1 - k))
        times.append(after)
    return times[::-1]
