"""The key `condition` of an entry: of which kind it is, and what becomes of a caption or a picture that holds one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from genbench.condition import ConditionSpec, Kind
from genbench.data.picture import as_levels, check_lossless, framed, is_turned, numbers, plain
from genbench.data.refusals import Unfit
from genbench.support.seeds import derive_seed

if TYPE_CHECKING:
    from PIL.Image import Image

Shape = tuple[int, int, int]
FEWEST_PIXELS = 2
"""The smallest side of a small image."""
LONGEST = 10_000
"""Characters of a caption: what is longer is something else."""
NAMED_IDS = 8
"""How many strange numbers of a map a message names."""


class Conditioning(BaseModel):
    """What the images of an entry are conditioned on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind

    @abstractmethod
    def spec(self, shape: Shape) -> ConditionSpec:
        """The condition of images (C, H, W). Raises ValueError, naming the key, if it does not suit their shape."""

    @property
    def step(self) -> int:
        """Of how many pixels the place is a multiple at which a crop begins."""
        return 1


@dataclass(frozen=True)
class Frame:
    """An image as it was read, of size (W, H), and the shape (C, H, W) and `crop` that it gets."""

    size: tuple[int, int]
    turned: bool
    shape: Shape
    crop: int | None

    @classmethod
    def of(cls, picture: Image, shape: Shape, crop: int | None) -> Frame:
        return cls(picture.size, is_turned(picture), shape, crop)

    def check(self, picture: Image, factor: int = 1) -> None:
        """Raise Unfit for a picture beside the image whose sides are not those of the image divided by `factor`.

        The picture is decoded: to look for its orientation may do that too, and takes from it what it was stored as.
        """
        if self.turned or is_turned(picture):
            told = "rotated or mirrored by its EXIF orientation"
            raise Unfit("a picture or what is beside it is stored turned", told, "store both upright")
        if tuple(factor * side for side in picture.size) != self.size:
            found = f"{picture.height}x{picture.width} pixels beside an image of {self.size[1]}x{self.size[0]}"
            wanted = "give it the size of its image" if factor == 1 else f"give it 1/{factor} of the image's sides"
            raise Unfit("another size", found, f"{wanted}: nothing is resized to fit")

    def nearest(self, levels: np.ndarray) -> np.ndarray:
        """Numbers (h, w), below 2**31, of the whole image in the places that its pixels get, int32 (H, W)."""
        from PIL import Image as PIL

        whole = PIL.fromarray(levels.astype(np.int32))
        return np.asarray(framed(whole, (self.shape[2], self.shape[1]), self.crop, 1, PIL.Resampling.NEAREST))


class OfText(Conditioning):
    """A caption. Where an image has several, `seed` says which is taken."""

    kind: Literal["text"]
    length: int = Field(32, ge=1, le=1024)
    words: int = Field(4096, ge=3, le=2**20)  # numbers: two of them are no words
    seed: int = Field(0, ge=0)

    def spec(self, shape: Shape) -> ConditionSpec:
        return ConditionSpec("text", (self.length,), self.words)

    def caption(self, found: Any, name: str) -> str:
        """The caption of the image `name`, of a text or a list of them. Raises Unfit if there is none."""
        several = found if isinstance(found, list) else [found]
        if strange := [each for each in several if not isinstance(each, str)]:
            raise Unfit("a caption that is no text", f"{type(strange[0]).__name__}", "give a text, or a list of texts")
        told = [each.strip() for each in several if each.strip()]
        if not told:
            raise Unfit("an empty caption", "no word in it", "write one, or remove the image")
        text: str = told[derive_seed("caption", self.seed, name) % len(told)]
        if len(text) > LONGEST:
            many = f"{len(text):,} characters"
            raise Unfit("too long for a caption", many, f"give at most {LONGEST:,}: is it another column, or file?")
        if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
            raise Unfit("a caption that is no text", "characters that no text has", "remove them")
        return text


class OfPicture(Conditioning):
    """A condition that is a picture beside the image."""

    @abstractmethod
    def row(self, picture: Image, frame: Frame) -> np.ndarray:
        """The main array of one image's condition. Raises Unfit."""


class OfMap(OfPicture):
    """A class for each pixel. The levels are `classes` numbers from 0, or from 1 if `zero` is to be ignored."""

    kind: Literal["map"]
    classes: int = Field(ge=1, le=2**16 - 1)
    ignore: int | None = Field(None, ge=0, lt=2**16)
    zero: Literal["class", "ignore"] | None = None

    @model_validator(mode="after")
    def what_is_ignored_is_no_class(self) -> OfMap:
        if self.ignore is not None and self.ignore < self.first + self.classes:
            raise ValueError(f"ignore: {self.ignore} is among the ids 0 to {self.first + self.classes - 1}")
        return self

    @property
    def first(self) -> int:
        """The id of the first class."""
        return int(self.zero == "ignore")

    def spec(self, shape: Shape) -> ConditionSpec:
        return ConditionSpec("map", shape[1:], self.classes)

    def row(self, picture: Image, frame: Frame) -> np.ndarray:
        """Classes (H, W), and `classes` where an id is ignored."""
        ids = numbers(picture)
        frame.check(picture)
        return frame.nearest(self.classes_of(ids)).astype(row_type(self.spec(frame.shape)))

    def classes_of(self, ids: np.ndarray) -> np.ndarray:
        """The classes of ids, and the number of classes where an id is ignored. Raises Unfit for other ids."""
        known = (self.first <= ids) & (ids < self.first + self.classes)
        strange = set(np.unique(ids[~known]).tolist()) - {self.ignore} - ({0} if self.first else set())
        if strange:
            raise self._strange(sorted(strange))
        return np.where(known, ids - self.first, self.classes)

    def _strange(self, ids: Sequence[int]) -> Unfit:
        last = self.first + self.classes - 1
        if self.zero is None and list(ids) == [self.classes]:
            told = f"an id {self.classes} with classes = {self.classes}"
            one = f'classes = {self.classes + 1} and zero = "class" if 0 is one of them'
            return Unfit("ids from 0 or from 1", told, f'set zero = "ignore" if 0 is no class, or {one}')
        named = ", ".join(map(str, ids[:NAMED_IDS])) + ", ..." * (len(ids) > NAMED_IDS)
        hint = "correct `classes`, or name by `ignore` the id of what is unknown"
        return Unfit("ids that are no classes", f"{named}; classes are {self.first} to {last}", hint)


class OfHole(OfPicture):
    """A hole to be filled, where a black and white mask has the colour `hole`."""

    kind: Literal["hole"]
    hole: Literal["white", "black"]

    def spec(self, shape: Shape) -> ConditionSpec:
        return ConditionSpec("hole", (1, *shape[1:]))

    def row(self, picture: Image, frame: Frame) -> np.ndarray:
        """True, bool (1, H, W), where the image is to be filled."""
        check_lossless(picture)
        mask = plain(picture)
        frame.check(mask)
        levels = np.asarray(mask).astype(np.uint8).reshape(*mask.size[::-1], -1)
        found = set(np.unique(levels).tolist())
        if (levels != levels[..., :1]).any() or not (found <= {0, 1} or found <= {0, 255}):
            told = "colours" if (levels != levels[..., :1]).any() else f"{len(found)} levels"
            raise Unfit("a mask that is not black and white", told, "give 0 and 255, or 0 and 1, alone")
        white = frame.nearest(levels[..., 0] > 0) > 0
        hole = white if self.hole == "white" else ~white
        if hole.all() or not hole.any():
            told = f'with hole = "{self.hole}"'
            hint = f'correct the mask, or set hole = "{"black" if self.hole == "white" else "white"}"'
            raise Unfit("a hole that is the whole image" if hole.all() else "a mask without a hole", told, hint)
        return hole[None]


class OfSmall(OfPicture):
    """The image at 1/`factor` of its sides, made small elsewhere. Neither is resized."""

    kind: Literal["image"]
    factor: int = Field(ge=2)

    def spec(self, shape: Shape) -> ConditionSpec:
        return small_spec(shape, self.factor)

    @property
    def step(self) -> int:
        return self.factor

    def row(self, picture: Image, frame: Frame) -> np.ndarray:
        """Levels, uint8 (C, h, w)."""
        small = plain(picture)
        frame.check(small, self.factor)
        colours, height, width = frame.shape
        if ((frame.crop, frame.crop) if frame.crop else frame.size) != (width, height):
            told = f"{frame.size[1]}x{frame.size[0]} pixels, of which the dataset has {height}x{width}"
            raise Unfit("an image that would be resized", told, "set shape and `crop` so that nothing is resized")
        crop = frame.crop // self.factor if frame.crop else None
        return as_levels(small, (colours, height // self.factor, width // self.factor), crop)[0]


def small_spec(shape: Shape, factor: int) -> ConditionSpec:
    """An image (C, H, W) at 1/`factor` of its sides. Raises ValueError if it does not divide them."""
    colours, height, width = shape
    if height % factor or width % factor or min(height, width) < FEWEST_PIXELS * factor:
        told = f"factor: {factor} does not divide the sides of {height}x{width} pixels"
        raise ValueError(f"{told} into at least {FEWEST_PIXELS}")
    return ConditionSpec("image", (colours, height // factor, width // factor))


def row_type(spec: ConditionSpec) -> np.dtype[Any]:
    """The type that the main array of a condition with places is stored in."""
    if spec.kind == "map":
        return np.dtype(np.uint8 if spec.size < 2**8 else np.uint16)
    return np.dtype(bool if spec.kind == "hole" else np.uint8)
