"""The training images that no classifier trained here ever sees: the floor and the ladder are made of them."""

from __future__ import annotations

import numpy as np

from genbench.data.dataset import Dataset
from genbench.support.seeds import derive_seed

SHARE, LEAST, MOST_SHARE = 0.1, 1000, 0.25


def held_out(data: Dataset) -> np.ndarray:
    """Sorted indices of the held-out training images: a tenth, or 1,000 if that is at most a quarter."""
    total = len(data.train)
    count = max(round(SHARE * total), min(LEAST, round(MOST_SHARE * total)))
    return np.sort(np.random.default_rng(derive_seed(0, "held out")).permutation(total)[:count])


def held_out_first(data: Dataset, seed: int) -> tuple[np.ndarray, int]:
    """All training images in a seeded order, the held-out ones first, and how many these are."""
    random, kept = np.random.default_rng(derive_seed(seed, "real row")), held_out(data)
    others = np.setdiff1d(np.arange(len(data.train)), kept, assume_unique=True)
    return np.concatenate([random.permutation(kept), random.permutation(others)]), len(kept)
