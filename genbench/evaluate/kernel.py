"""The kernel distance (KID) with the cubic polynomial kernel, in the subsets that torch-fidelity draws."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from genbench.evaluate.value import Value, checked, too_few, with_error
from genbench.seeds import derive_seed

SUBSET = 1000
ROWS = 250
COLUMNS = 5000
"""Images at most that a kernel's mean over images is taken of, for the error."""


def kid(generated: Tensor, reference: Tensor, subsets: int = 100, seed: int = 2020, error: bool = False) -> Value:
    """Unbiased squared MMD with the kernel (x.y/d + 1)^3 (Bińkowski et al. 2018), averaged over random subsets.

    It may be slightly negative. Subsets overlap, so that their standard deviation is no standard error: that is
    the square root of Var(h(x))/N + deviation^2/subsets. The first term, with h the gradient of the MMD by an image,
    2 (mean over x' of k(x, x') - mean over y of k(x, y)), is the limit of a jackknife over random halves; the second
    is for the subsets drawn. It costs as much again as a third of 100 subsets of 1,000 images.
    """
    generated, reference = checked(generated, "generated"), checked(reference, "reference")
    size = kid_subset_size(len(generated), len(reference))
    if size < 2:
        return too_few("KID needs at least 4 images on both sides")
    first, second = _lifted(generated), _lifted(reference)
    random = np.random.RandomState(seed)
    values = np.zeros(subsets)
    for index in range(subsets):
        x = first[torch.from_numpy(random.choice(len(first), size, replace=False))]
        y = second[torch.from_numpy(random.choice(len(second), size, replace=False))]
        values[index] = (_pairs(x) + _pairs(y)) / (size * (size - 1)) - 2 * _between(x, y) / size**2
    note = f"in subsets of {size} images, not of {SUBSET:,}" if size < SUBSET else ""
    value = Value(float(values.mean()), note, deviation=float(values.std()))
    if not error:
        return value
    gradient = _gradient(first, second, seed)
    return with_error(value, math.sqrt(float(gradient.var()) / len(first) + float(values.var()) / subsets))


def kid_subset_size(generated: int, reference: int) -> int:
    """1,000 where both sets have at least 2,000 images, else half the smaller set."""
    return min(SUBSET, min(generated, reference) // 2)


def _lifted(features: Tensor) -> Tensor:
    """(x/sqrt(d), 1), whose products are x.y/d + 1."""
    scaled = features / math.sqrt(features.shape[1])
    return torch.cat([scaled, scaled.new_ones(len(scaled), 1)], 1)


def _cubes(products: Tensor) -> float:
    """The sum of the cubes of all entries, by multiplications: a power is twenty times as slow."""
    flat = products.view(-1)
    return float(torch.dot(flat * flat, flat))


def _between(x: Tensor, y: Tensor) -> float:
    """The kernel summed over all pairs of x and y; in blocks that stay in the processor's cache."""
    return math.fsum(_cubes(rows @ y.T) for rows in torch.split(x, ROWS))


def _pairs(x: Tensor) -> float:
    """The kernel summed over all ordered pairs of different rows; each pair is computed about once."""
    parts = [-float((x * x).sum(1).pow(3).sum())]
    for start in range(0, len(x), ROWS):
        rows = x[start : start + ROWS]
        parts.append(_cubes(rows @ rows.T))
        if start + ROWS < len(x):
            parts.append(2 * _cubes(rows @ x[start + ROWS :].T))
    return math.fsum(parts)


def _gradient(first: Tensor, second: Tensor, seed: int) -> Tensor:
    """h of every generated image, up to a constant; means are over COLUMNS seeded images at most."""
    generator = np.random.default_rng(derive_seed(seed, "columns of KID"))
    own, others = (torch.from_numpy(np.sort(generator.permutation(len(side))[:COLUMNS])) for side in (first, second))
    same = _row_sums(first, first[own])
    same[own] -= (first[own] * first[own]).sum(1).pow(3)
    pairs = torch.full((len(first),), float(len(own)), dtype=torch.float64)
    pairs[own] -= 1
    return 2 * (same / pairs - _row_sums(first, second[others]) / len(others))


def _row_sums(x: Tensor, y: Tensor) -> Tensor:
    """The kernel of every row of x, summed over the rows of y."""
    blocks = (rows @ y.T for rows in torch.split(x, ROWS // 4))
    return torch.cat([(block * block).mul_(block).sum(1) for block in blocks])
