"""What is left open of an image from a known mixture once a part of it, or a smaller version, is seen: exactly.

Each component is Gaussian and what is seen is linear in the image, so that given it the image is a mixture again:

    y = A x + e,   e ~ N(0, r I),   K_k = S_k A' (A S_k A' + r I)^-1
    p(x | y) = sum_k p(k | y) N(mean_k + K_k (y - A mean_k), S_k - K_k A S_k)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genbench.condition import Kind
from genbench.data.dataset import Part

ROUNDING = 1 / 12
"""The variance of the error that rounding to levels makes."""


@dataclass(frozen=True)
class Posterior:
    """The distribution of images (D,) given `seen` (M, D) times the image, rounded to levels.

    Images are from equally likely Gaussians with means (K, D) and covariances (K, D, D).
    """

    gaussian_means: np.ndarray
    covariances: np.ndarray
    seen: np.ndarray

    @cached_property
    def _components(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, float]]:
        """Of each component the gain (D, M), and of what is seen the inverse covariance (M, M) and log |.|."""
        found = []
        for covariance in self.covariances:
            both = covariance @ self.seen.T
            inner = self.seen @ both + ROUNDING * np.eye(len(self.seen))
            inverse = np.linalg.inv(inner)
            gain = both @ inverse
            found.append((gain, inverse, covariance - gain @ both.T, float(np.linalg.slogdet(inner)[1])))
        return found

    def shares(self, values: np.ndarray) -> np.ndarray:
        """p(k | y), (B, K), of what is seen, (B, M)."""
        from scipy.special import softmax

        log_prob = np.empty((len(values), len(self.gaussian_means)))
        for k, (mean, (_, inverse, _, log_det)) in enumerate(zip(self.gaussian_means, self._components)):
            apart = values - self.seen @ mean
            log_prob[:, k] = -(np.einsum("bm,mn,bn->b", apart, inverse, apart) + log_det) / 2
        found: np.ndarray = softmax(log_prob, axis=1)
        return found

    def means(self, values: np.ndarray) -> np.ndarray:
        """E[x | y, k], (B, K, D)."""
        found: np.ndarray = np.stack(
            [
                mean + (values - self.seen @ mean) @ gain.T
                for mean, (gain, *_) in zip(self.gaussian_means, self._components)
            ],
            axis=1,
        )
        return found

    def mean(self, values: np.ndarray) -> np.ndarray:
        """E[x | y], (B, D)."""
        found: np.ndarray = np.einsum("bk,bkd->bd", self.shares(values), self.means(values))
        return found

    def draw(self, values: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """An x for each y, (B, D)."""
        chosen = (self.shares(values).cumsum(1) < random.random((len(values), 1))).sum(1)
        chosen = np.minimum(chosen, len(self.gaussian_means) - 1)
        drawn: np.ndarray = self.means(values)[np.arange(len(values)), chosen]
        for k, (_, _, covariance, _) in enumerate(self._components):
            mine = chosen == k
            root = _root(covariance)
            drawn[mine] += random.standard_normal((mine.sum(), root.shape[1])) @ root.T
        return drawn


def _root(covariance: np.ndarray) -> np.ndarray:
    """R with R R' the covariance, of which what is seen leaves parts singular."""
    values, vectors = np.linalg.eigh(covariance)
    root: np.ndarray = vectors * np.sqrt(values.clip(0))
    return root


def hidden_of(part: Part, kind: Kind, places: np.ndarray) -> np.ndarray:
    """Which values (M, D) of images the conditions do not show as they are."""
    shape = (len(places), *part.images.shape[1:])
    if kind != "hole":
        return np.ones((len(places), math.prod(shape[1:])), bool)
    return np.broadcast_to(part.conditions["hole"]["hole"][places], shape).reshape(len(places), -1)


def shown(kind: Kind, part: Part, places: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What holes and small images show: which of `places` (N,), by which matrix (M, D), and the values (n, M)."""
    if kind == "hole":
        flat = part.images[places].reshape(len(places), -1).astype(np.float64)
        for mine, seen in seen_through(hidden_of(part, kind, places)):
            yield mine, seen, flat[mine] @ seen.T
        return
    small = part.conditions["image"]["image"]
    values = small[places].reshape(len(places), -1).astype(np.float64)
    yield np.arange(len(places)), seen_small(part.images.shape[1:], small.shape[1:]), values


def seen_through(holes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each different hole of (N, D) the images (n,) that have it, and the matrix (M, D) that shows the others."""
    different, which = np.unique(holes, axis=0, return_inverse=True)
    for index, hole in enumerate(different):
        yield np.flatnonzero(which.ravel() == index), np.eye(holes.shape[1])[~hole]


def seen_small(shape: tuple[int, ...], small: tuple[int, ...]) -> np.ndarray:
    """The matrix (M, D) of the means of squares that make images of one shape ones of a smaller one."""
    from genbench.data.observations import reduced

    unit = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    matrix: np.ndarray = reduced(unit, shape[1] // small[1]).reshape(len(unit), -1).T
    return matrix
