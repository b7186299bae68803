"""Generated images from a known distribution: a mixture of Gaussians, and bounds on its entropy.

    component k ~ uniform,   x = mean_k + modes_k z + noise * e,   z, e ~ N(0, I),   level = round(x), clipped to 0..255

Means and modes are smooth patterns. Every part of the entropy is bounded rather than estimated: the overlap of the
components, what rounding adds, and what clipping removes. Grey levels and nats throughout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genbench.condition import SHOWING, Kind
from genbench.data.dataset import KnownLaw, Part
from genbench.data.posterior import Posterior, shown
from genbench.records.record import Entropy
from genbench.support.seeds import derive_seed

FREQUENCIES = 3
CONTRAST = 72.0
VARIATION = 12.0
MIDDLE = 127.5
BLOCK = 1000
"""Images drawn at a time."""


def make_mixture(shape: tuple[int, int, int], components: int, rank: int, noise: float, seed: int) -> Mixture:
    """The mixture of a seed, the same in every version of NumPy, since the streams of RandomState are frozen."""
    stream = np.random.RandomState(derive_seed("mixture", seed) % 2**32)
    means = smooth_patterns(stream.standard_normal((components, shape[0], FREQUENCIES, FREQUENCIES)), shape)
    means *= CONTRAST / np.abs(means).max(axis=1, keepdims=True)
    return Mixture(MIDDLE + means, smooth_modes(stream, (components, rank), shape, VARIATION), noise)


def smooth_modes(
    stream: np.random.RandomState, counts: tuple[int, int], shape: tuple[int, int, int], deviation: float
) -> np.ndarray:
    """Patterns (K, D, rank) of `counts`, whose sums weighted by N(0, I) deviate by so much where they do so most."""
    count, rank = counts
    modes = smooth_patterns(stream.standard_normal((count * rank, shape[0], FREQUENCIES, FREQUENCIES)), shape)
    modes = modes.reshape(count, rank, -1).swapaxes(1, 2)
    modes *= deviation / np.sqrt((modes**2).sum(axis=2).max(axis=1))[:, None, None]
    return modes


def smooth_patterns(weights: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Sums of low cosines, weaker at higher frequency, without the constant: weights (N, C, f, f) to (N, C*H*W)."""
    waves = [
        np.cos(np.pi * np.outer(np.arange(weights.shape[2]), (np.arange(side) + 0.5) / side)) for side in shape[1:]
    ]
    frequency = np.add.outer(np.arange(weights.shape[2]), np.arange(weights.shape[3]))
    weights = np.where(frequency > 0, weights / (1 + frequency), 0)
    patterns: np.ndarray = np.einsum("ncuv,uh,vw->nchw", weights, *waves).reshape(len(weights), -1)
    return patterns


@dataclass(frozen=True)
class Mixture(KnownLaw):
    """Equally likely Gaussians: means (K, D), modes (K, D, rank), and the standard deviation of isotropic noise."""

    means: np.ndarray
    modes: np.ndarray
    noise: float
    kinds = SHOWING

    @cached_property
    def covariances(self) -> np.ndarray:
        """(K, D, D)."""
        covariances: np.ndarray = self.modes @ self.modes.swapaxes(1, 2) + self.noise**2 * np.eye(self.means.shape[1])
        return covariances

    def draw(self, count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """uint8 levels (B, D) and their components (B,), BLOCK at a time, `count` in all."""
        stream = np.random.RandomState(seed % 2**32)
        all_labels = stream.randint(len(self.means), size=count)
        all_scores = stream.standard_normal((count, self.modes.shape[2]))
        for start in range(0, count, BLOCK):
            labels, scores = all_labels[start : start + BLOCK], all_scores[start : start + BLOCK]
            images = self.means[labels] + self.noise * stream.standard_normal((len(labels), self.means.shape[1]))
            for label in range(len(self.means)):
                images[labels == label] += scores[labels == label] @ self.modes[label].T
            yield np.rint(images).clip(0, 255).astype(np.uint8), labels

    def log_prob(self, levels: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Nats per image (B,) of levels (B, D), or given their components (B,).

        A level's probability is taken as the density at its centre: within about 0.1 nats an image, rounding and the
        few clipped pixels included, at 64 dimensions and the least `noise` of a dataset.
        """
        from scipy.linalg import solve_triangular
        from scipy.special import logsumexp

        found = np.empty((len(levels), len(self.means)))
        for k, (mean, covariance) in enumerate(zip(self.means, self.covariances)):
            factor = np.linalg.cholesky(covariance)
            z = solve_triangular(factor, (levels - mean).T, lower=True)
            found[:, k] = -(z**2).sum(0) / 2 - np.log(np.diag(factor)).sum() - len(mean) * math.log(2 * math.pi) / 2
        if labels is not None:
            own: np.ndarray = found[np.arange(len(levels)), labels]
            return own
        total: np.ndarray = logsumexp(found, axis=1) - math.log(len(self.means))
        return total

    def answers(
        self, kind: Kind, part: Part, places: np.ndarray, random: np.random.Generator | None = None
    ) -> np.ndarray:  # fmt: skip
        found = np.empty((len(places), self.means.shape[1]))
        for mine, seen, values in shown(kind, part, places):
            posterior = Posterior(self.means, self.covariances, seen)
            found[mine] = posterior.mean(values) if random is None else posterior.draw(values, random)
        return found

    def entropy(self, conditional: bool = False) -> Entropy:
        """The entropy of the 256 levels, or of the levels given the component: the midpoint of two bounds.

        The lower bound is the differential entropy less the most that overlap and clipping can remove; the upper bound
        has no overlap, and the most that rounding can add. `error` is half their distance.
        """
        dims = self.means.shape[1]
        density = float(np.linalg.slogdet(2 * math.pi * math.e * self.covariances)[1].mean()) / 2
        overlap = 0.0
        if not conditional:
            density, overlap = density + math.log(len(self.means)), self.overlap()
        low, high = density - overlap - self.clipping(), density + self.rounding()
        unit = dims * math.log(2)
        note = (
            f"a mixture of {len(self.means)} Gaussians in {dims} dimensions"
            f"{', given the component' if conditional else ''}: differential entropy {density / unit:.6f} bits/dim, "
            f"overlap removes at most {overlap / unit:.1e}, rounding adds at most {self.rounding() / unit:.1e} (a "
            f"logarithmic Sobolev inequality), clipping removes at most {self.clipping() / unit:.1e}"
        )
        return Entropy(bits_per_dim=(low + high) / 2 / unit, error=(high - low) / 2 / unit, note=note)

    def overlap(self) -> float:
        """Upper bound on H(component | x), by Bhattacharyya coefficients. Source: Kolchinsky & Tracey 2017."""
        log_det = np.linalg.slogdet(self.covariances)[1]
        total = 0.0
        for k, mean in enumerate(self.means):
            middle = (self.covariances + self.covariances[k]) / 2
            apart = self.means - mean
            distance = np.einsum("kd,kd->k", apart, np.linalg.solve(middle, apart[..., None])[..., 0]) / 8
            distance += (np.linalg.slogdet(middle)[1] - (log_det + log_det[k]) / 2) / 2
            total += math.log1p(float(np.exp(-np.delete(distance, k)).sum()))
        return total / len(self.means)

    def rounding(self) -> float:
        """Upper bound on the entropy that rounding adds, KL(p || p averaged over each bin) <= I / (2 pi^2).

        I is the trace of p's Fisher information, at most the components' mean since it is convex. Source: the
        sharp logarithmic Sobolev inequality on the unit interval (Emery & Yukich 1987, by reflection), tensorised.
        """
        information = np.trace(np.linalg.inv(self.covariances), axis1=1, axis2=2).mean()
        return float(information) / (2 * math.pi**2)

    def clipping(self) -> float:
        """Upper bound on the entropy that clipping removes: that of the levels beyond 0 and 255, pixel by pixel."""
        std = np.sqrt(np.diagonal(self.covariances, axis1=1, axis2=2))
        dark = entropy_beyond((self.means - 0.5) / std, 1 / std)
        return float((dark + entropy_beyond((254.5 - self.means) / std, 1 / std)).sum())


def entropy_beyond(edge: np.ndarray, level: np.ndarray, count: int = 60) -> np.ndarray:
    """P(beyond) H(level | beyond) of pixels (...,) of a mixture; `edge` and `level` (K, ...) in standard deviations."""
    tails = np.stack([_normal_tail(edge + step * level).mean(axis=0) for step in range(count)])
    shares = np.maximum(tails[:-1] - tails[1:], 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = shares * np.log(tails[0] / shares)
    total: np.ndarray = np.nansum(surprise, axis=0)
    return total


def _normal_tail(z: np.ndarray) -> np.ndarray:
    """P(N(0, 1) > z), elementwise."""
    from scipy.special import ndtr

    tail: np.ndarray = ndtr(-z)
    return tail
