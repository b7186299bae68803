"""The noise levels of annealed Langevin dynamics, and the rules by which the size of the images chooses them.

The techniques are those of Song & Ermon 2020. A level is the standard deviation of the noise on pixels in [0, 1]; they
fall from sigma_1 to sigma_L.
"""

import math
from collections.abc import Sequence


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


def logit_normal(sigmas: Sequence[float]) -> list[float]:
    """The share of training that each level has if more of it goes to those at which images take shape.

    The time of a cosine schedule, t = 2 / pi arctan(2 sigma) for images in [-1, 1], is logit-normal over levels whose
    logarithms are evenly spaced. Source: Esser et al. 2024, equation 19.
    """
    weights = []
    for sigma in sigmas:
        t = 2 / math.pi * math.atan(2 * sigma)
        slope = 2 * sigma / (1 + 4 * sigma**2) / (t * (1 - t))  # of logit(t) in log(sigma), but for a constant
        weights.append(slope * math.exp(-0.5 * math.log(t / (1 - t)) ** 2))
    return [weight / sum(weights) for weight in weights]


def variance_after(rate: float, noise: float, gamma: float, steps: int) -> float:
    """The variance of pure noise after `steps` steps at level sigma_i, in units of sigma_i^2.

    `rate` is alpha_i / sigma_i^2, and `noise` the variance of the noise that a step adds, in units of sigma_i^2: twice
    the rate in Langevin dynamics. The level before is taken to end with the variance sigma_{i-1}^2. Source: Song &
    Ermon 2020, proposition 3 (s_T^2 / sigma_i^2).
    """
    kept = (1 - rate) ** 2
    return kept**steps * gamma**2 + noise * (1 - kept**steps) / (1 - kept)


def consistent_noise(rate: float, gamma: float, steps: int) -> float:
    """The variance of a step's noise, in units of sigma_i^2, with which `variance_after` is 1, as technique 4 wants it.

    Langevin's leaves more at every rate. The excess is small with hundreds of steps; with few it adds up from level to
    level. For one step a level this is beta^2 of consistent annealed sampling (Jolicoeur-Martineau et al. 2021).
    """
    kept = (1 - rate) ** 2
    return (1 - kept**steps * gamma**2) * (1 - kept) / (1 - kept**steps)


def consistent_rate(gamma: float, steps: int) -> float:
    """The rate at which `consistent_noise` keeps the spread of images too.

    Where they vary by far more than the noise, a level subtracts T (2 rate - noise) sigma_i^2 from the variance, which
    should be sigma_{i-1}^2 - sigma_i^2. With one step the solution is 2 (1 - 1 / gamma^2). Levels that are so far apart
    that there is none have 1, at which a step adds noise to the expected image.
    """

    def lacks(rate: float) -> float:
        return gamma**2 - 1 - steps * (2 * rate - consistent_noise(rate, gamma, steps))

    low, high = 1 - gamma ** (-1 / steps), 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if lacks(middle) > 0 else (low, middle)
    return high
