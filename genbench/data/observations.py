"""What a task shows of an image: all but a hole, or the image made small. Each is made when the images are prepared."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import Field

from genbench.condition import ConditionSpec
from genbench.data.conditioning import Conditioning, Shape, small_spec
from genbench.support.seeds import derive_seed

PIECE = 1000
"""Images that are in memory at once, at most, as their conditions are made."""


class Observation(Conditioning):
    """A condition that is made of the image. `drawn_by` seeds what is drawn."""

    @property
    def drawn_by(self) -> int:
        return 0

    @abstractmethod
    def of_some(self, images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """What is stored of uint8 images (n, C, H, W), n first; `random` goes on from part to part."""

    def parts(self, images: np.ndarray, split: str) -> Iterator[np.ndarray]:
        """What is stored of the images (N, C, H, W) of a split, which seeds what is drawn, in parts."""
        random = np.random.default_rng(derive_seed(self.kind, self.drawn_by, split))
        for start in range(0, len(images), PIECE):
            yield self.of_some(images[start : start + PIECE], random)

    def of(self, images: np.ndarray, split: str) -> np.ndarray:
        """The same as one array."""
        return np.concatenate(list(self.parts(images, split)))


class HoleObservation(Observation):
    """A hole to be filled: the right half, the centre, a rectangle or strokes of a brush anywhere, or most pixels."""

    kind: Literal["hole"]
    shape: Literal["half", "centre", "box", "strokes", "pixels"] = "half"
    seed: int = Field(0, ge=0)

    @property
    def drawn_by(self) -> int:
        return self.seed

    def spec(self, shape: Shape) -> ConditionSpec:
        return ConditionSpec("hole", (1, *shape[1:]))

    def of_some(self, images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Bool (n, 1, H, W): True where an image is to be filled."""
        holes = np.zeros((len(images), 1, *images.shape[2:]), bool)
        for (hole,) in holes:
            HOLES[self.shape](hole, random)
        return holes


def half(hole: np.ndarray, random: np.random.Generator) -> None:
    """The right half of (H, W)."""
    hole[:, hole.shape[1] // 2 :] = True


def centre(hole: np.ndarray, random: np.random.Generator) -> None:
    """A rectangle of half of each side."""
    (top, tall), (left, wide) = (((side - side // 2) // 2, side // 2) for side in hole.shape)
    hole[top : top + tall, left : left + wide] = True


def box(hole: np.ndarray, random: np.random.Generator) -> None:
    """A rectangle of half of each side, anywhere."""
    top, left = (random.integers(0, side - side // 2 + 1) for side in hole.shape)
    hole[top : top + hole.shape[0] // 2, left : left + hole.shape[1] // 2] = True


STROKES, TURNS, BRUSH = 4, 4, 1 / 8
"""Strokes of an image, straight pieces of each, and their width as a share of the shorter side."""


def strokes(hole: np.ndarray, random: np.random.Generator) -> None:
    """Broken lines of a round brush from one place to the next."""
    from PIL import Image, ImageDraw

    canvas = Image.new("1", hole.shape[::-1])
    pen, width = ImageDraw.Draw(canvas), max(2, round(BRUSH * min(hole.shape)))
    for _ in range(STROKES):
        points = random.random((TURNS + 1, 2)) * hole.shape[::-1]
        pen.line([(float(x), float(y)) for x, y in points], fill=1, width=width, joint="curve")
    hole |= np.asarray(canvas)


PIXELS = 3 / 4


def pixels(hole: np.ndarray, random: np.random.Generator) -> None:
    """Three pixels of four, each by itself."""
    hole |= random.random(hole.shape) < PIXELS


HOLES = {"half": half, "centre": centre, "box": box, "strokes": strokes, "pixels": pixels}
"""How each shape marks its pixels in a mask, bool (H, W)."""


class SmallObservation(Observation):
    """A smaller image to be enlarged: the means of squares of `factor` pixels, rounded to levels."""

    kind: Literal["image"]
    factor: int = Field(ge=2)

    def spec(self, shape: Shape) -> ConditionSpec:
        return small_spec(shape, self.factor)

    def of_some(self, images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Uint8 (n, C, H/f, W/f)."""
        small: np.ndarray = np.rint(reduced(images, self.factor)).astype(np.uint8)
        return small


def reduced(images: np.ndarray, factor: int) -> np.ndarray:
    """The means of squares of `factor` pixels of images (N, C, H, W), in levels."""
    count, colours, height, width = images.shape
    squares = images.reshape(count, colours, height // factor, factor, width // factor, factor)
    means: np.ndarray = squares.mean((3, 5), dtype=np.float64)
    return means
