"""The training images that no classifier trained here ever sees: the floor and the ladder are made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genbench.support.seeds import derive_seed

if TYPE_CHECKING:
    from genbench.data.dataset import Dataset


def held_out(dataset: Dataset) -> np.ndarray:
    """Sorted indices of the training images that no local classifier trains on.

    They are a tenth of the training images or, if that is more, a quarter of them up to 1,000.
    """
    return parted(len(dataset.train))[1]


def parted(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of those of `count` training images that a classifier trains on, and of those held out."""
    order = np.random.default_rng(derive_seed("held out", count)).permutation(count)
    apart = max(count // 10, min(1000, count // 4))
    return np.sort(order[apart:]), np.sort(order[:apart])


def held_out_first(dataset: Dataset, seed: int) -> tuple[np.ndarray, int]:
    """All training images in a seeded order, the held-out ones first, and how many these are."""
    others, apart = parted(len(dataset.train))
    random = np.random.default_rng(derive_seed(seed, "real row"))
    return np.concatenate([random.permutation(apart), random.permutation(others)]), len(apart)
