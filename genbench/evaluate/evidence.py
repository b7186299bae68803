"""Evidence that a density has more mass than 1: its mean ratio to a known distribution, over draws from that one.

For a probability P and draws y ~ q, E[P(y) / q(y)] is the mass of P where q has any, at most 1 whatever P and q are:
their mean is an e-value (Vovk & Wang 2021, "E-values: calibration, combination and applications"), and by Markov's
inequality it is THRESHOLD or more with a probability of at most 1 in THRESHOLD. The mean of several e-values is one.

It has power where q is near P: it finds a bit/dim too much if draws of q cost the honest density less than a bit/dim
more than their entropy. It says nothing of a density that is too large only where q has no draws.

It holds for exact densities, and for bounds without noise, which are below one. It does not hold for estimates: exp of
an unbiased estimate of log P with variance v, in nats of a whole image, is too large by a factor of about exp(v / 2),
so that honest bounds would fail. Of these, means are compared with an entropy (Gibbs' inequality).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from genbench.capabilities import Likelihood
from genbench.condition import Given
from genbench.data.mixture import Mixture
from genbench.distributions import discretized_gaussian, normal_draw
from genbench.images import LEVELS, to_float, to_uint8
from genbench.model import Batch, Model

THRESHOLD = 1000.0
DRAWS = 128
LEAST_SPREAD = 1 / 128
"""The standard deviation of a pixel that does not vary, one level."""


class Law(Protocol):
    """A known distribution of images of 256 levels."""

    @property
    def words(self) -> str:
        """What it is, in a few words."""
        ...

    def draw(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        """uint8 images (count, C, H, W), and the labels (count,) that they are drawn given, if any."""
        ...

    def log_prob(self, levels: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """Nats per image, float64 (B,), given their labels if any."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Every level of every pixel alike."""

    shape: tuple[int, int, int]
    words = "uniform noise"

    def draw(self, count: int, seed: int) -> tuple[np.ndarray, None]:
        return np.random.default_rng(seed).integers(0, LEVELS, (count, *self.shape), dtype=np.uint8), None

    def log_prob(self, levels: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        return np.full(len(levels), -math.prod(self.shape) * math.log(LEVELS))


@dataclass(frozen=True)
class Generator:
    """The mixture that the images of a dataset were drawn from, given the component if `conditional`."""

    mixture: Mixture
    shape: tuple[int, int, int]
    conditional: bool = False
    words = "the known distribution of the images"

    def draw(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        levels, labels = map(np.concatenate, zip(*self.mixture.draw(count, seed)))
        return levels.reshape(-1, *self.shape), labels.astype(np.int64) if self.conditional else None

    def log_prob(self, levels: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        return self.mixture.log_prob(levels.reshape(len(levels), -1), labels)


@dataclass(frozen=True)
class PixelByPixel:
    """A discretised Gaussian for every pixel, with the mean and the deviation of given samples, on [-1, 1]."""

    mean: Tensor
    std: Tensor
    words = "a Gaussian for every pixel, fitted to the model's samples"

    @classmethod
    def of(cls, samples: np.ndarray) -> PixelByPixel:
        """That of uint8 samples (N, C, H, W)."""
        floats = to_float(torch.from_numpy(np.ascontiguousarray(samples)))
        return cls(floats.mean(0), floats.std(0).clamp(min=LEAST_SPREAD))

    def draw(self, count: int, seed: int) -> tuple[np.ndarray, None]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            drawn = normal_draw(self.mean.expand(count, *self.mean.shape), self.std.log())
        return to_uint8(drawn).numpy(), None

    def log_prob(self, levels: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        found = discretized_gaussian(to_float(torch.from_numpy(levels)), self.mean, self.std)
        return found.flatten(1).sum(1).numpy()


LogProb = Callable[[np.ndarray, np.ndarray | None], Tensor]
"""The model's log P, nats per image (B,), of uint8 levels (B, C, H, W), given labels if the law draws any."""


def log_prob_of_levels(model: Model, levels: Tensor, given: Given, seed: int) -> Tensor:
    """log P, nats (B,), of uint8 levels (B, C, H, W); of a density, that of a dequantised image, times a bin."""
    assert isinstance(model, Likelihood)
    batch = Batch.of_levels(levels, given, model.discrete, seed)
    torch.manual_seed(seed)
    found = model.log_prob(batch.images, batch.given).double()
    return found if model.discrete else found - model.data.dims * math.log(LEVELS / 2)


def excess_mass(log_prob: LogProb, laws: Sequence[Law], seed: int) -> str:
    """The evidence that `log_prob` has more mass than 1, with its numbers; "" if it is below THRESHOLD.

    A density p on [-1, 1) stands for P(y) = p(x) (2 / 256)^D, x uniform in the bin of y: its mean over x is that of the
    bin. DRAWS images of each law are tried. Values that are not finite count as no mass: they are told elsewhere.
    """
    found = []
    for law in laws:
        levels, labels = law.draw(DRAWS, seed)
        ours, theirs = log_prob(levels, labels).double().cpu().numpy(), law.log_prob(levels, labels)
        log_ratio = np.where(np.isfinite(ours), ours - theirs, -np.inf)
        mean = float(np.logaddexp.reduce(log_ratio) - math.log(DRAWS))
        found.append((mean, law, -float(ours.mean()) / _unit(levels), -float(theirs.mean()) / _unit(levels)))
    if not found:
        return ""
    largest, worst, paid, entropy = max(found, key=lambda each: each[0])
    if largest - math.log(len(found)) < math.log(THRESHOLD):
        return ""
    return (
        f"more mass than 1: over {DRAWS} draws of {worst.words}, the mean of p/q is 10^{largest / math.log(10):.1f} "
        f"(an e-value, at most 1 in expectation for any density p); they cost {paid:.3f} bits/dim, their entropy is "
        f"{entropy:.3f}"
    )


def _unit(levels: np.ndarray) -> float:
    """Nats of one bit/dim."""
    return float(levels[0].size * math.log(2))
