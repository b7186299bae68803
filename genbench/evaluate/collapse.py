"""Signs that a model has collapsed: samples that hardly differ or repeat each other, or classes that it never draws."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from genbench.metrics.value import above, share
from genbench.records.record import Measurement

LEAST_SPREAD, LEAST_COVERAGE = 0.1, 0.5
"""Shares below which there is a sign: of the real images' spread, of the classes."""
REPEAT = 0.1
"""The distance to the nearest other image, as a share of what is usual among real images, at most which one repeats it.
"""
PROBE = 1000


def collapse_signs(images: np.ndarray, real: np.ndarray, measurements: Iterable[Measurement]) -> list[str]:
    """The signs of collapse in uint8 samples (N, C, H, W), in one sentence; none is an empty list.

    `real` are test images to compare with; of both, only the first PROBE are used. `measurements` are the samples'.
    """
    count = min(len(images), len(real), PROBE)
    ours, theirs = np.asarray(images[:count]), np.asarray(real[:count])
    signs = []
    usual, nearness = isolation(theirs), isolation(ours)
    limit = REPEAT * float(np.median(usual))
    repeated, natural = int((nearness <= limit).sum()), int((usual <= limit).sum())
    if above(share(repeated, count), share(natural, count)):
        signs.append(f"{repeated} of {count} samples repeat another one, {natural} of as many test images do")
    narrow, wide = spread(ours), spread(theirs)
    if narrow < LEAST_SPREAD * wide:
        signs.append(f"samples differ by {narrow:.2g} grey levels per pixel, test images by {wide:.2g}")
    for found in measurements:
        if found.metric == "class_coverage" and found.value is not None and found.value < LEAST_COVERAGE:
            signs.append(f"{found.value:.0%} of the classes are drawn often enough to be covered")
            break
    return [f"it may have collapsed: {'; '.join(signs)}"] if signs else []


def isolation(images: np.ndarray) -> np.ndarray:
    """For each image, float (N,): the distance to the nearest other one over the median distance to all others.

    It is 0 for images that another one equals, whatever the contrast.
    """
    import torch

    levels = torch.from_numpy(images).flatten(1).float()
    distances = torch.cdist(levels, levels)
    distances.fill_diagonal_(torch.inf)
    near = distances.amin(1)
    near[near < 0.5] = 0.0  # of whole levels, so the rounding of an exact 0
    found: np.ndarray = (near / distances.median(1).values.clamp(min=1e-6)).double().numpy()
    return found


def spread(images: np.ndarray) -> float:
    """The standard deviation over images, in grey levels, averaged over pixels."""
    return float(images.std(axis=0, dtype=np.float32).mean())
