"""The noise levels of annealed Langevin dynamics, and the rules by which the size of the images chooses them.

The techniques are those of Song & Ermon 2020. A level is the standard deviation of the noise on pixels in [0, 1]; they
fall from sigma_1 to sigma_L.
"""

import math


def largest_distance(dims: int) -> float:
    """sigma_1 by technique 1: the largest Euclidean distance that two images of `dims` pixels in [0, 1] can have.

    The paper takes the largest distance between two training images, 0.8 to 0.9 of this for its photographs. The number
    of levels grows with the logarithm of sigma_1, so that the difference costs a few levels.
    """
    return math.sqrt(dims)


def number_of_levels(dims: int, largest: float, smallest: float) -> int:
    """L by technique 2: so many that half of one level's noise has lengths that are usual at the next level.

    The length of noise of level sigma is distributed as N(sqrt(D) sigma, sigma^2 / 2). Of level i - 1, the share
    within three deviations of the mean at level i is Phi(sqrt(2 D) (gamma - 1) + 3 gamma) - Phi(sqrt(2 D) (gamma - 1)
    - 3 gamma) with gamma = sigma_{i-1} / sigma_i. The first term is 1, and the second 1/2 where its argument is 0.
    """
    lengths = math.sqrt(2 * dims)
    gamma = lengths / max(lengths - 3, 1.0)
    return max(2, 1 + math.ceil(math.log(largest / smallest) / math.log(gamma)))


def geometric(largest: float, smallest: float, count: int) -> list[float]:
    """sigma_1 to sigma_L in geometric progression."""
    return [largest * (smallest / largest) ** (i / (count - 1)) for i in range(count)]


def variance_after(rate: float, gamma: float, steps: int, before: float = 1.0) -> float:
    """The variance of pure noise after `steps` Langevin steps at level sigma_i, in units of sigma_i^2.

    `rate` is alpha_i / sigma_i^2, and `before` the variance at the end of the level before, in units of sigma_{i-1}^2.
    Source: Song & Ermon 2020, proposition 3 (s_T^2 / sigma_i^2).
    """
    kept, rest = (1 - rate) ** (2 * steps), 1 / (1 - rate / 2)
    return kept * (before * gamma**2 - rest) + rest


def quietest_rate(gamma: float, steps: int, levels: int) -> float:
    """The rate at which pure noise ends the last of so many levels with the least excess variance.

    Source: technique 4, a grid search for s_T^2 / sigma_i^2 near 1, which it exceeds at every rate. The paper lets one
    level start from exactly the noise of the one before, `levels` = 1; here the excess is passed on. With few steps a
    level the difference matters: noise that a level leaves behind adds up until no image is left.
    """
    return min((k / 200 for k in range(1, 200)), key=lambda rate: excess_after(rate, gamma, steps, levels))


def excess_after(rate: float, gamma: float, steps: int, levels: int) -> float:
    """`variance_after` so many levels in turn."""
    variance = 1.0
    for _ in range(levels):
        variance = variance_after(rate, gamma, steps, variance)
    return variance
