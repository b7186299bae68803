"""What the kit conditions images on: a part of them, a map, words or numbers that depend on what they show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from genbench.condition import ConditionSpec, Kind
from genbench.data.observations import HoleObservation, Observation, SmallObservation

CLASSES = 3
SMALLEST = 4
"""The smallest side of images that show anything."""
LENGTH = 4


class Told(Protocol):
    """One kind of condition of the kit's images."""

    def spec(self, shape: tuple[int, int, int]) -> ConditionSpec:
        """The condition of images (C, H, W)."""

    def of(self, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Its arrays of images (N, C, H, W) and their labels."""


@dataclass(frozen=True)
class Shown:
    """A part of the image, or a small version."""

    made: Observation

    def spec(self, shape: tuple[int, int, int]) -> ConditionSpec:
        return self.made.spec(shape)

    def of(self, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        return {self.made.kind: self.made.of(images, "kit")}


class Map:
    """Three classes of pixels: dark, middle and bright, by the mean of their colours."""

    def spec(self, shape: tuple[int, int, int]) -> ConditionSpec:
        return ConditionSpec("map", shape[1:], 3)

    def of(self, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        return {"map": np.digitize(images.mean(1), (96, 160)).astype(np.uint8)}


class Text:
    """A word for the class, and one that all texts have; the class 0 has no word of its own."""

    def spec(self, shape: tuple[int, int, int]) -> ConditionSpec:
        return ConditionSpec("text", (LENGTH,), CLASSES + 2)

    def of(self, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        text = np.zeros((len(images), LENGTH), np.int32)
        text[:, 0] = CLASSES + 1
        text[:, 1] = np.where(labels > 0, labels + 1, 0)
        return {"text": text}


class Vector:
    """The mean and the deviation of an image's levels, as shares of 255."""

    def spec(self, shape: tuple[int, int, int]) -> ConditionSpec:
        return ConditionSpec("vector", (2,))

    def of(self, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        levels = images.reshape(len(images), -1) / 255
        return {"vector": np.stack([levels.mean(1), levels.std(1)], axis=1).astype(np.float32)}


TOLD: Mapping[Kind, Told] = {
    "hole": Shown(HoleObservation(kind="hole", shape="half")),
    "image": Shown(SmallObservation(kind="image", factor=2)),
    "map": Map(),
    "text": Text(),
    "vector": Vector(),
}
ALIKE: tuple[tuple[Kind, ...], ...] = (("hole", "image", "map"), ("text", "vector"))
"""Kinds that a model takes alike, as channels or beside the time: the first of each that it lists is tried."""


def told(shape: tuple[int, ...]) -> Mapping[Kind, Told]:
    """What images of this shape can be conditioned on."""
    return TOLD if min(shape[1:]) >= SMALLEST else {}
