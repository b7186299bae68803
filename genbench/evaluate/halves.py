"""Random halves of the generated images: the sampling error of whatever is no mean over images.

A half is drawn without replacement: a bootstrap would repeat images, and a repeated image is its own nearest
neighbour. For a number T of n images and its values T', T'' on the two halves of a random split, (T' - T'')/2 has
the variance of T wherever T is smooth, because halves are half as large and independent of each other; what T gains
from being computed on fewer images (the bias of FID, the holes of coverage) is the same in both and cancels.
Half-samples: McCarthy 1969, "Pseudo-replication: half samples"; without replacement: Politis and Romano 1994.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from genbench.seeds import derive_seed


def half_splits(count: int, splits: int, seed: int) -> Iterator[Tensor]:
    """For each split the indices of one half of `count` images; the other half is all the others."""
    generator = np.random.default_rng(derive_seed(seed, "halves"))
    for _ in range(splits):
        yield torch.from_numpy(generator.permutation(count)[: count // 2])


def members(count: int, splits: int, seed: int) -> Tensor:
    """bool (count, 2 * splits): in which halves an image is; columns 2s and 2s + 1 are the two halves of a split."""
    inside = torch.zeros(count, 2 * splits, dtype=torch.bool)
    for split, half in enumerate(half_splits(count, splits, seed)):
        inside[half, 2 * split] = True
        inside[:, 2 * split + 1] = ~inside[:, 2 * split]
    return inside


def half_split_error(values: Tensor) -> float:
    """The standard error sqrt(mean(((T' - T'')/2)^2)) from the values (2 * splits,) on the halves of each split."""
    pairs = values.double().reshape(-1, 2)
    return float(((pairs[:, 0] - pairs[:, 1]) / 2).square().mean().sqrt())
