"""Reads the classes of pixels off images of maps by Bayes' rule, and compares them with the maps.

Of each pixel alone it is known how its colour is distributed in each class (`genbench.data.regions`), and how many
pixels of training maps have that class: the likeliest is read.
"""

from __future__ import annotations

import numpy as np

from genbench.condition import EACH
from genbench.data.dataset import Dataset, Part
from genbench.data.regions import Regions
from genbench.metrics.alignment import agreement
from genbench.metrics.value import Value

BLOCK = 500


def values(images: np.ndarray, data: Dataset, places: np.ndarray) -> dict[str, Value]:
    """The metrics of images (N, 3, H, W), EACH in a row under the map of a test image."""
    assert isinstance(data.law, Regions)
    given, found = data.test.conditions["map"]["map"][places], read(images, data.law, shares_of(data.train))
    return agreement(confusion(np.asarray(given), found, data.test.sizes["map"]), places[::EACH])


def shares_of(part: Part) -> np.ndarray:
    """How many of the pixels of a split's maps have each class, as shares (K,)."""
    counts = np.bincount(np.asarray(part.conditions["map"]["map"]).ravel(), minlength=part.sizes["map"])
    shares: np.ndarray = counts[: part.sizes["map"]] / counts[: part.sizes["map"]].sum()
    return shares


def read(images: np.ndarray, law: Regions, shares: np.ndarray) -> np.ndarray:
    """The likeliest class of each pixel of images (N, C, H, W), given its colour and `shares` (K,): (N, H, W)."""
    count, colours, height, width = images.shape
    means = np.moveaxis(law.means.reshape(len(law.means), colours, -1), 1, 2)
    modes = law.modes.reshape(len(law.means), colours, height * width, -1)
    covariances = np.einsum("kcpr,kdpr->kpcd", modes, modes) + law.noise**2 * np.eye(colours)
    whitening = np.linalg.cholesky(np.linalg.inv(covariances))
    with np.errstate(divide="ignore"):
        common = np.log(shares)[:, None] - np.linalg.slogdet(covariances)[1] / 2
    found = np.empty((count, height * width), np.int64)
    for start in range(0, count, BLOCK):
        pixels = images[start : start + BLOCK].reshape(-1, colours, height * width).transpose(2, 0, 1)
        best = np.full(pixels.shape[:2], -np.inf)
        for k in range(len(means)):
            score = common[k, :, None] - np.square((pixels - means[k, :, None]) @ whitening[k]).sum(2) / 2
            found[start : start + BLOCK][(score > best).T] = k
            best = np.maximum(best, score)
    return found.reshape(count, height, width)


def confusion(given: np.ndarray, found: np.ndarray, size: int) -> np.ndarray:
    """How many pixels of maps (N, H, W), EACH of one condition, have a class and are read as one: (N / EACH, K, K).

    Pixels whose class is `size`, the unknown, are not counted.
    """
    conditions = len(given) // EACH
    of = np.arange(len(given))[:, None, None] // EACH
    cells = (of * size + given.astype(np.int64)) * size + found
    counts = np.bincount(cells[given < size], minlength=conditions * size**2)
    return counts.reshape(conditions, size, size)
