"""The kernel distance (KID) with the cubic polynomial kernel, in the subsets that torch-fidelity draws."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from genbench.metrics.features import checked
from genbench.metrics.metric import Measured, Metric
from genbench.metrics.value import Value, not_enough, with_error
from genbench.support.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from genbench.metrics.case import Case, Split

SUBSET = 1000
ROWS, STRIP = 64, 1024
"""Rows of kernels held at once, and of products if there can be many."""
COLUMNS = 5000
"""At most this many images enter a kernel's mean over images, for the error."""


def kid(generated: Tensor, reference: Tensor, subsets: int = 100, seed: int = 2020, error: bool = False) -> Value:
    """Unbiased squared MMD with the kernel (x.y/d + 1)^3 (Bińkowski et al. 2018), averaged over random subsets.

    It may be slightly negative. Subsets overlap, so their standard deviation is not a standard error: that is the
    square root of Var(h(x))/N + deviation^2/subsets. The first term, with h the gradient of the MMD with respect to an
    image, 2 (mean over x' of k(x, x') - mean over y of k(x, y)), is the limit of a jackknife over random halves; the
    second is due to the choice of subsets. The error costs a third of 100 subsets of 1,000 images.
    """
    generated, reference = checked(generated, "generated"), checked(reference, "reference")
    size = kid_subset_size(len(generated), len(reference))
    if size < 2:
        return not_enough("KID needs at least 4 images on both sides")
    first, second = _lifted(generated), _lifted(reference)
    random = np.random.RandomState(seed)
    values = np.zeros(subsets)
    for index in range(subsets):
        x = first[random.choice(len(first), size, replace=False)]
        y = second[random.choice(len(second), size, replace=False)]
        values[index] = (_pairs(x) + _pairs(y)) / (size * (size - 1)) - 2 * _total(x, y) / size**2
    note = f"in subsets of {size} images, not of {SUBSET:,}" if size < SUBSET else ""
    value = Value(float(values.mean()), note, deviation=float(values.std()))
    if not error:
        return value
    gradient = _gradient(first, second, seed)
    return with_error(value, math.sqrt(float(gradient.var(ddof=1)) / len(first) + float(values.var()) / subsets))


def kid_subset_size(generated: int, reference: int) -> int:
    """1,000 if both sets have at least 2,000 images, else half the smaller set."""
    return min(SUBSET, min(generated, reference) // 2)


def _lifted(features: Tensor) -> np.ndarray:
    """(x/sqrt(d), 1) of each image, whose products are x.y/d + 1."""
    scaled = features.numpy() / math.sqrt(features.shape[1])
    return np.concatenate([scaled, np.ones((len(scaled), 1))], 1)


def _kernel(x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
    """(x.y/d + 1)^3 of all pairs, in blocks of rows that stay in the CPU's cache.

    Numpy computes only half of x @ x.T.
    """
    products = x @ y.T
    for start in range(0, len(x), ROWS):
        yield _cubed(products[start : start + ROWS])


def _cubed(base: np.ndarray) -> np.ndarray:
    """The cube by multiplications: a power is twenty times as slow."""
    square: np.ndarray = base * base
    square *= base
    return square


def _itself(x: np.ndarray) -> np.ndarray:
    """The kernel (N,) of every image and itself."""
    return _cubed(np.square(x).sum(1))


def _total(x: np.ndarray, y: np.ndarray) -> float:
    """The kernel summed over all pairs of x and y."""
    return math.fsum(float(block.sum()) for block in _kernel(x, y))


def _pairs(x: np.ndarray) -> float:
    """The kernel summed over all ordered pairs of different images."""
    return _total(x, x) - float(_itself(x).sum())


def _gradient(first: np.ndarray, second: np.ndarray, seed: int) -> np.ndarray:
    """h of every generated image, up to a constant; means are over at most COLUMNS seeded images."""
    generator = np.random.default_rng(derive_seed(seed, "columns of KID"))
    own, others = (np.sort(generator.permutation(len(side))[:COLUMNS]) for side in (first, second))
    same = _row_sums(first, first[own])
    same[own] -= _itself(first[own])
    pairs = np.full(len(first), float(len(own)))
    pairs[own] -= 1
    gradient: np.ndarray = 2 * (same / pairs - _row_sums(first, second[others]) / len(others))
    return gradient


def _row_sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The kernel of every image of x, summed over y."""
    return np.concatenate(
        [block.sum(1) for start in range(0, len(x), STRIP) for block in _kernel(x[start : start + STRIP], y)]
    )


def measure_test(case: Case) -> dict[str, Measured]:
    """KID against the test split."""
    return {"kid_test": _measured(case, "test")}


def measure_train(case: Case) -> dict[str, Measured]:
    """KID against the training split."""
    return {"kid_train": _measured(case, "train")}


def _measured(case: Case, split: Split) -> Measured:
    generated, reference, given = case.generated, case.reference(split), case.settings
    settings = {
        "split": split, "reference_images": len(reference), "seed": given.seed, "subsets": given.kid_subsets,
        "subset_size": kid_subset_size(len(generated), len(reference)), "kernel": "(x.y/d + 1)^3",
    }  # fmt: skip
    value = kid(generated.features, reference.features, given.kid_subsets, given.seed, error=True)
    return Measured(value, len(generated), settings)


METRICS = (
    Metric(
        "kid_test", "KID test", "lower", "kid", "test", measure=measure_test,
        places={"headline": 20, "full": 30, "record": 21},
    ),
    Metric("kid_train", "KID train", "lower", "kid", "train", measure=measure_train, places={"full": 31, "record": 31}),
)  # fmt: skip
