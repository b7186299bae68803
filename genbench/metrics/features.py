"""The features of a set of images, from which metrics are computed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genbench.support.errors import CorruptData
from genbench.support.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor


NO_CLASSES = "the extractor has no classes"
"""Why what is measured by predicted classes has no number."""


@dataclass(frozen=True)
class Features:
    """float64 features (N, d) and logits (N, classes), None if the extractor has no classes; on the CPU, finite.

    `labels` (N,), int64, are the classes that the images have or were drawn under, if they are known.
    """

    features: Tensor
    logits: Tensor | None = None
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.features)

    def take(self, indices: np.ndarray) -> Features:
        """The features of some of the images, in the order of `indices`."""
        logits = None if self.logits is None else self.logits[indices]
        return Features(self.features[indices], logits, None if self.labels is None else self.labels[indices])


def require_finite(features: Tensor, what: str, first: int = 0) -> Tensor:
    """The features themselves. Raises CorruptData naming the first non-finite row, counted from `first`."""
    if math.isfinite(float(features.sum())):
        return features
    finite = features.isfinite().flatten(1).all(1)
    if not finite.all():
        bad = first + int((~finite).nonzero()[0])
        raise CorruptData(f"{what}: those of image {bad} are not finite", "check the extractor's weights")
    return features


def checked(features: Tensor, side: str) -> Tensor:
    """The features as float64 (N, d) on the CPU. Raises CorruptData if one is not finite."""
    return require_finite(features.detach().cpu().double(), f"features of the {side} images")


def chosen(count: int, most: int, seed: int, *purpose: str) -> np.ndarray:
    """Sorted indices of at most `most` of `count` images, drawn without replacement.

    They depend only on the seed and the purpose, and so are the same for every model.
    """
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(derive_seed(seed, *purpose)).choice(count, most, replace=False))
