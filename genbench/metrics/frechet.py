"""The Fréchet distance of two Gaussians fitted to the features, its sampling error, and its limit for infinite N."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from genbench.metrics.features import checked
from genbench.metrics.jackknife import jackknife_error, members
from genbench.metrics.metric import Measured, Metric
from genbench.metrics.value import Value, not_enough, with_error, with_notes
from genbench.support.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from genbench.metrics.case import Case, Split

SIZES = 15
FEWEST = 4
"""Images whose halves have a covariance."""
SMALLEST = 4
"""The smallest subset of the extrapolation is the set's size divided by this."""


@dataclass(frozen=True)
class Moments:
    """Sums over some images: their count, x (d,), |x|^2, and z z^T (d, d), where z is x times the reference's root."""

    count: int
    total: np.ndarray
    squares: float
    gram: np.ndarray

    def without(self, part: Moments) -> Moments:
        """The moments of the other images."""
        return Moments(
            self.count - part.count, self.total - part.total, self.squares - part.squares, self.gram - part.gram
        )


class Frechet:
    """Distances of subsets of `generated` (N, d) to `reference` (M, d), float64.

    With R R^T the reference's covariance, R (d, min(d, M)), tr (S1 S2)^1/2 is the sum of the square roots of the
    eigenvalues of R^T S1 R, which is symmetric and takes one product per subset. A subset costs n d^2 + d^3 operations,
    its complement d^3. All of it is numpy's, which computes only half of x^T x, and whose idle threads are in nobody's
    way.
    """

    def __init__(self, generated: Tensor, reference: Tensor) -> None:
        first, self.reference = generated.numpy(), reference.numpy()
        centre, self.other = first.mean(0), self.reference.mean(0)
        self.shift = centre - self.other
        self.centred = first - centre
        self.squares = np.einsum("nd,nd->n", self.centred, self.centred)

    @cached_property
    def root(self) -> np.ndarray:
        """R (d, min(d, M))."""
        scaled = (self.reference - self.other) / math.sqrt(len(self.reference) - 1)
        return scaled.T if len(scaled) <= scaled.shape[1] else root_of(_gram(scaled))

    @cached_property
    def trace(self) -> float:
        """That of the reference's covariance."""
        return float(np.square(self.root).sum())

    @cached_property
    def projected(self) -> np.ndarray:
        """z (N, min(d, M)) of every image."""
        return np.asarray(self.centred @ self.root)

    @cached_property
    def everything(self) -> Moments:
        """The moments of all images."""
        return self.moments(slice(None))

    def moments(self, images: np.ndarray | slice) -> Moments:
        """The moments of the images with these indices."""
        x, z = self.centred[images], self.projected[images]
        return Moments(len(x), x.sum(0), float(self.squares[images].sum()), _gram(z))

    def distance(self, moments: Moments) -> float:
        """The squared Fréchet distance; slightly negative if rounding makes it so."""
        n, mean = moments.count, moments.total / moments.count
        projected = mean @ self.root
        covariance = (moments.gram - n * np.outer(projected, projected)) / (n - 1)
        return self._distance(n, mean, moments.squares, covariance)

    def halves(self, first: np.ndarray) -> tuple[float, float]:
        """The distances of the images that a mask (N,) chooses, and of all others."""
        if len(first) // 2 > self.root.shape[1]:
            part = self.moments(first)
            return self.distance(part), self.distance(self.everything.without(part))
        return self._of_few(first), self._of_few(~first)

    def _of_few(self, chosen: np.ndarray) -> float:
        """The distance of n images, few: z z^T (n, n) has those eigenvalues of R^T S R that are not 0."""
        x, z = self.centred[chosen], self.projected[chosen]
        centred = z - z.mean(0)
        covariance = centred @ centred.T / (len(x) - 1)
        return self._distance(len(x), x.mean(0), float(self.squares[chosen].sum()), covariance)

    def _distance(self, n: int, mean: np.ndarray, squares: float, covariance: np.ndarray) -> float:
        """Of n images with this mean (d,), sum of |x|^2, and covariance of z, or another matrix of its eigenvalues."""
        trace = (squares - n * float(mean @ mean)) / (n - 1)
        roots = np.sqrt(np.linalg.eigvalsh(covariance).clip(min=0)).sum()
        return float(np.square(mean + self.shift).sum()) + trace + self.trace - 2 * float(roots)


def _gram(x: np.ndarray) -> np.ndarray:
    """x^T x (d, d) of x (n, d)."""
    return np.asarray(x.T @ x)


def root_of(covariance: np.ndarray) -> np.ndarray:
    """R with R R^T the covariance (d, d): Cholesky's factor or, if it is singular, from its eigenvectors."""
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray(vectors * np.sqrt(values.clip(min=0)))


def fid(
    generated: Tensor, reference: Tensor, allow_rank_deficient: bool = False, error_splits: int = 0, seed: int = 2020
) -> Value:
    """Fréchet distance of two Gaussians fitted to the features (Heusel et al. 2017), float64.

    Needs more images than feature dimensions on both sides, else the covariances cannot have full rank. The error is
    over `error_splits` random splits into halves (genbench.metrics.jackknife), two eigenvalue problems each; halves may
    have fewer images than dimensions, since their bias cancels.
    """
    import torch

    generated, reference = checked(generated, "generated"), checked(reference, "reference")
    count, dim = min(len(generated), len(reference)), generated.shape[1]
    if count < 2:
        return not_enough("FID needs at least 2 images on both sides")
    note = f"{count} images for {dim} feature dimensions"
    if count <= dim and not allow_rank_deficient:
        return not_enough(f"{note}: the covariance cannot have full rank")
    frechet = Frechet(generated, reference)
    if count <= dim:
        value = with_notes(_clamped(*rank_deficient(generated, reference)), f"rank-deficient: {note}")
    else:
        trace = frechet.everything.squares / (len(generated) - 1) + frechet.trace
        value = _clamped(frechet.distance(frechet.everything), trace)
    if not error_splits or value.value is None or len(generated) < FEWEST:
        return value
    halves = members(len(generated), error_splits, 2, seed)[:, ::2].T.numpy()
    values = [distance for half in halves for distance in frechet.halves(half)]
    return with_error(value, jackknife_error(torch.tensor(values), 2), error_splits, low=0.0)


def fid_of_pairs(
    generated: Tensor, reference: Tensor, allow_rank_deficient: bool = False, error_splits: int = 0, seed: int = 2020
) -> Value:
    """FID of images whose features (N, d) are made from those of the reference (N, d), row by row: of reconstructions.

    The distance is that of `fid`. Other images would change both sides together, so that the error is over halves of
    the pairs: there is none if every image is reconstructed exactly.
    """
    import torch

    value = fid(generated, reference, allow_rank_deficient)
    if not error_splits or value.value is None:
        return value
    generated, reference = checked(generated, "generated"), checked(reference, "reference")
    if len(generated) < FEWEST:
        return value
    values = []
    for kept in members(len(generated), error_splits, 2, seed).T:
        frechet = Frechet(generated[kept], reference[kept])
        values.append(frechet.distance(frechet.everything))
    return with_error(value, jackknife_error(torch.tensor(values), 2), error_splits, low=0.0)


def rank_deficient(generated: Tensor, reference: Tensor) -> tuple[float, float]:
    """The distance, and the sum of both traces, if a covariance does not have full rank.

    tr (S1 S2)^1/2 is the nuclear norm of F1 F2^T for any F with F^T F = S: no root of a rounding error is taken.
    """
    import torch

    first, second = _factor(generated), _factor(reference)
    trace = float(first.square().sum() + second.square().sum())
    overlap = float(torch.linalg.svdvals(first @ second.T).sum())
    return float((generated.mean(0) - reference.mean(0)).square().sum()) + trace - 2 * overlap, trace


def _factor(features: Tensor) -> Tensor:
    """F with F^T F the covariance of features (N, d): at most d rows."""
    import torch

    centred = (features - features.mean(0)) / math.sqrt(len(features) - 1)
    return centred if len(features) <= features.shape[1] else torch.linalg.qr(centred).R


def _clamped(distance: float, trace: float) -> Value:
    """A slightly negative distance, due to rounding, becomes 0 with a note; a clearly negative one has failed."""
    if not distance >= -1e-6 * max(1.0, trace):
        return Value(None, f"the distance came out as {distance:g}: numerically unreliable", status="failed")
    return Value(max(distance, 0.0), f"{distance:.3g} before clamping to 0" if distance < 0 else "")


def fid_infinity(generated: Tensor, reference: Tensor, stderr: float | None = None, seed: int = 2020) -> Value:
    """FID extrapolated to infinitely many generated images (Chong and Forsyth 2020): the intercept of a line in 1/N.

    The line is fitted to FIDs of 15 subset sizes, evenly spaced from a quarter of the images to all; for each size, as
    many subsets of one seeded shuffle are averaged as it takes to use every image. The reference, and with it the bias
    of its size, stays the same. Needs subsets of more images than dimensions.

    `stderr` is the FID's. To first order FID is a mean over images, and the intercept a weighted mean: its error is the
    FID's times the root mean square of the weights.
    """
    generated, reference = checked(generated, "generated"), checked(reference, "reference")
    count, dim = len(generated), generated.shape[1]
    smallest = count // SMALLEST
    if smallest <= dim or len(reference) <= dim:
        few = min(smallest, len(reference))
        return not_enough(f"{few} images for {dim} feature dimensions in the smallest fit of a line in 1/N")
    order = np.random.default_rng(derive_seed(seed, "subsets of FID")).permutation(count)
    sizes = np.linspace(smallest, count, SIZES).round().astype(int)
    frechet = Frechet(generated, reference)
    distances, used = [], np.zeros((SIZES, count))
    for row, size in enumerate(sizes):
        starts = np.linspace(0, count - size, math.ceil(count / size)).round().astype(int)
        for start in starts:
            used[row, start : start + size] += 1 / (size * len(starts))
        subsets = [frechet.distance(frechet.moments(order[start : start + size])) for start in starts]
        distances.append(float(np.mean(subsets)))
    return _extrapolated(1 / sizes, np.array(distances), used, stderr)


def _extrapolated(inverse: np.ndarray, distances: np.ndarray, used: np.ndarray, stderr: float | None) -> Value:
    """The intercept of the least-squares line through (1/N, FID), with R^2 in the note."""
    design = np.stack([np.ones_like(inverse), inverse], 1)
    weights = np.linalg.pinv(design)
    intercept, slope = weights @ distances
    residual = distances - design @ np.array([intercept, slope])
    spread = float(((distances - distances.mean()) ** 2).sum())
    fit = 1 - float((residual**2).sum()) / spread if spread > 0 else 1.0
    value = Value(float(intercept), f"R^2 {fit:.4f} of a line in 1/N through {len(inverse)} subset sizes")
    if stderr is None:
        return value
    on_images = weights[0] @ used
    return with_error(value, stderr * float(np.sqrt(len(on_images) * (on_images**2).sum())))


def measure_test(case: Case) -> dict[str, Measured]:
    """FID against the test split, and its limit for infinitely many generated images, whose error is the FID's."""
    test, seed = case.reference("test"), case.settings.seed
    own = _measured(case, "test")
    limit = fid_infinity(case.generated.features, test.features, own.value.stderr, seed)
    settings = {
        "split": "test", "reference_images": len(test), "seed": seed, "sizes": SIZES,
        "error_splits": case.settings.error_splits,
    }  # fmt: skip
    return {"fid_test": own, "fid_test_infinity": Measured(limit, len(case.generated), settings)}


def measure_train(case: Case) -> dict[str, Measured]:
    """FID against the training split."""
    return {"fid_train": _measured(case, "train")}


def _measured(case: Case, split: Split) -> Measured:
    reference, given = case.reference(split), case.settings
    settings = {
        "split": split, "reference_images": len(reference), "seed": given.seed,
        "allow_rank_deficient": given.allow_rank_deficient, "error_splits": given.error_splits,
    }  # fmt: skip
    value = fid(
        case.generated.features, reference.features, given.allow_rank_deficient, given.error_splits, given.seed
    )  # fmt: skip
    return Measured(value, len(case.generated), settings)


METRICS = (
    Metric(
        "fid_test", "FID test", "lower", "fid", "test", sees="everything", measure=measure_test,
        places={"headline": 10, "quality": 20, "cost": 10, "condition": 30, "full": 20, "record": 20},
    ),
    Metric(
        "fid_train", "FID train", "lower", "fid", "train", judged_as="fid_test", measure=measure_train,
        places={"quality": 21, "full": 21, "record": 30},
    ),
    Metric(
        "fid_test_infinity", "FID-infinity test", "lower", "fid", "test", judged_as="fid_test", measure=measure_test,
        places={"full": 70, "record": 22},
    ),
)  # fmt: skip
