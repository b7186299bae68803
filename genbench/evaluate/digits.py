"""Reads digits, and tells whether answers to a part of a digit, or to a small one, are of its class."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from genbench.condition import EACH
from genbench.data.bundled import DIGITS
from genbench.data.dataset import Dataset
from genbench.evaluate.classifier import Classifier, load_classifier
from genbench.evaluate.extractor import SHIPPED_FOLDER
from genbench.metrics.alignment import KEPT, share_of
from genbench.metrics.value import Value

BLOCK = 1000


@cache
def classifier_of(side: int) -> Classifier:
    """The classifier that ships for digits of so many pixels a side."""
    return load_classifier(SHIPPED_FOLDER / f"{DIGITS[side].classifier}.json")[0]


def values(images: np.ndarray, data: Dataset, places: np.ndarray) -> dict[str, Value]:
    """The metrics of digits (N, 1, H, W), EACH in a row under what is shown of a test image."""
    assert data.test.labels is not None
    kept = read(images) == data.test.labels[places]
    return {KEPT: share_of(kept.astype(np.float64).reshape(-1, EACH), places[::EACH])}


def read(images: np.ndarray) -> np.ndarray:
    """The classes of digits (N, 1, side, side), int64 (N,), by the classifier that ships for digits of this size."""
    classifier = classifier_of(images.shape[2])
    found = np.empty(len(images), np.int64)
    with torch.no_grad():
        for start in range(0, len(images), BLOCK):
            block = np.ascontiguousarray(images[start : start + BLOCK])
            found[start : start + BLOCK] = classifier(torch.from_numpy(block))[1].argmax(1).numpy()
    return found
