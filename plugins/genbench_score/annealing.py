"""From noise to data by annealed Langevin dynamics, whatever the network behind the score."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from genbench.langevin import langevin
from genbench.walks import Walk, last

Score = Callable[[int, Tensor], Tensor]
"""(i, x) -> the score at x (B, ...) of images with the noise of level i, counted from 0."""


def annealed_langevin(
    x: Tensor, score: Score, sigmas: Sequence[float], steps: int, rate: float, noise: float, denoise: bool = True
) -> Walk:
    """From x (B, ...), by `steps` Langevin steps at each of L levels, which ends at times t = L - 1 to 0.

    The step at level i is alpha_i = `rate` * sigma_i^2, and its noise has the variance `noise` * sigma_i^2: 2 `rate` in
    Langevin dynamics. To `denoise` adds sigma_L^2 times the score in the end, which makes the expected image of one
    with the last noise. Sources: Song & Ermon 2019, algorithm 1, with the step of the authors' code, twice that of
    their text; the last step: Jolicoeur-Martineau et al. 2021.
    """
    total = len(sigmas)
    yield total, x
    for i, sigma in enumerate(sigmas):
        drift = partial(score, i)
        x = last(langevin(x, drift, steps, rate * sigma**2, noise**0.5 * sigma))
        if denoise and i == total - 1:
            x = x + sigma**2 * drift(x)
        yield total - 1 - i, x
