"""Signs that a model has collapsed: samples that hardly differ, or classes that it never draws."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from genbench.records.record import Measurement

LEAST_SPREAD, LEAST_DISTINCT, LEAST_COVERAGE = 0.1, 0.5, 0.5
"""Shares below which there is a sign: of the real images' spread, of their distinct images, of the classes."""
PROBE = 1000


def collapse_signs(images: np.ndarray, real: np.ndarray, measurements: Iterable[Measurement]) -> list[str]:
    """The signs of collapse in uint8 samples (N, C, H, W), one sentence each.

    `real` are test images to compare with; of both, only the first PROBE are used. `measurements` are the samples'.
    """
    count = min(len(images), len(real), PROBE)
    ours, theirs = np.asarray(images[:count]), np.asarray(real[:count])
    signs = []
    if (few := distinct(ours)) < LEAST_DISTINCT * distinct(theirs):
        signs.append(f"only {few} of {count} samples are distinct images")
    narrow, usual = spread(ours), spread(theirs)
    if narrow < LEAST_SPREAD * usual:
        signs.append(f"samples differ by {narrow:.2g} grey levels per pixel, test images by {usual:.2g}")
    for found in measurements:
        if found.metric == "class_coverage" and found.value is not None and found.value < LEAST_COVERAGE:
            signs.append(f"{found.value:.0%} of the classes are drawn often enough to be covered")
            break
    return signs


def distinct(images: np.ndarray) -> int:
    """The number of distinct images."""
    return len({hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images})


def spread(images: np.ndarray) -> float:
    """The standard deviation over images, in grey levels, averaged over pixels."""
    return float(images.std(axis=0, dtype=np.float32).mean())
