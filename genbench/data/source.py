"""What every source of images is: two splits of uint8 images (C, H, W) with labels, given one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from genbench.records.record import Entropy
from genbench.support.errors import BadInput
from genbench.support.store import release

if TYPE_CHECKING:
    from PIL.Image import Image

SIDES = (8, 512)
TURNED = range(2, 9)
"""The EXIF orientations of images that do not stand as they are stored."""
RELEASED = 1024
"""Images after which a memory-mapped array is let go of."""


@dataclass(frozen=True)
class Split:
    """`count` pairs of a uint8 image (C, H, W) and its label, -1 where there is none."""

    count: int
    items: Iterable[tuple[np.ndarray, int]]


@dataclass(frozen=True)
class Place:
    """Where a source may look: the folder of its datasets file, the data root, and whether it may download."""

    base: Path
    data_root: Path
    offline: bool = False

    def path(self, text: str) -> Path:
        """A path of the datasets file: `~` is the home folder, relative paths are relative to the file."""
        if "$" in text:
            raise BadInput(
                f"path {text!r}: variables are not expanded", "write the path out, or use ~ for the home folder"
            )
        try:
            path = self.base / Path(text).expanduser()
            if not path.exists():
                raise BadInput(f"{path}: no such file or folder", "correct `path` in the datasets file")
        except (RuntimeError, ValueError, OSError) as error:
            raise BadInput(f"path {text!r}: {first_line(error)}", "correct `path` in the datasets file") from error
        return path


class Source(BaseModel):
    """What every entry of datasets.toml says; each kind of source adds its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    title: str = ""
    shape: tuple[Literal[1, 3], int, int]
    num_classes: int = Field(0, ge=0, le=100_000)
    extractors: tuple[str, ...] = ()
    crop: int | None = Field(None, ge=1)
    _turned: int = PrivateAttr(0)

    def model_post_init(self, context: object) -> None:
        low, high = SIDES
        if not all(low <= side <= high for side in self.shape[1:]):
            raise ValueError(f"shape: sides must be {low} to {high} pixels")

    def splits(self, place: Place) -> tuple[Split, Split]:
        """The training and the test split. Raises BadInput or EnvironmentProblem where they cannot be had."""
        raise TypeError(f"{type(self).__qualname__} has no splits()")

    def state(self, place: Place) -> list[Any]:
        """What tells a changed source from an unchanged one without reading its images."""
        return []

    def entropy(self, conditional: bool) -> Entropy | None:
        """That of the images' distribution, or of an image given its label; None where it is not known."""
        return None

    @property
    def turned(self) -> int:
        """How many of the images converted so far had an EXIF orientation, as which they were turned."""
        return self._turned

    def convert(self, image: Image) -> np.ndarray:
        """The image as uint8 (C, H, W) in the entry's shape: turned, cropped, resized with antialiasing."""
        from PIL import ExifTags, ImageOps
        from PIL import Image as PIL

        channels, height, width = self.shape
        if image.mode not in ("1", "L", "RGB"):
            image = _plain_mode(image)
        self._turned += image.getexif().get(ExifTags.Base.Orientation) in TURNED
        image = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
        if self.crop and self.crop > min(image.size):
            raise ValueError(f"crop = {self.crop} of an image of {image.width}x{image.height}")
        if self.crop:
            left, top = (image.width - self.crop) // 2, (image.height - self.crop) // 2
            image = image.crop((left, top, left + self.crop, top + self.crop))
        if image.size != (width, height):
            image = ImageOps.fit(image, (width, height), PIL.Resampling.BICUBIC)
        array = np.asarray(image, dtype=np.uint8)
        return array[None] if channels == 1 else array.transpose(2, 0, 1)


def stamp(path: Path) -> tuple[int, int, int]:
    """Size and the times of change: the second, of the file's entry, cannot be set back, as a copy sets the first."""
    about = path.stat()
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """For each image the share of its class that stands before it, in [0, 1): splits by it keep each class's share."""
    order = np.argsort(labels, kind="stable")
    _, first, counts = np.unique(labels[order], return_index=True, return_counts=True)
    ranks = np.empty(len(labels))
    ranks[order] = (np.arange(len(labels)) - np.repeat(first, counts)) / np.repeat(counts, counts)
    return ranks


def split_of(images: np.ndarray, labels: np.ndarray, chosen: np.ndarray | None = None) -> Split:
    """All images of an array, or those of which `chosen` (N,) is true; read one by one where it is memory-mapped."""
    indices = np.arange(len(images)) if chosen is None else np.flatnonzero(chosen)

    def items() -> Iterator[tuple[np.ndarray, int]]:
        for place, index in enumerate(indices):
            yield images[index], int(labels[index])
            if place % RELEASED == 0:
                release(images)

    return Split(len(indices), items())


def _plain_mode(image: Image) -> Image:
    """An image of a mode whose conversion loses nothing unseen; raises ValueError for 16-bit, CMYK and transparency."""
    if image.mode == "P" and "transparency" not in image.info:
        return image.convert("RGB")
    if image.mode in ("RGBA", "LA") and image.getchannel("A").getextrema() == (255, 255):
        return image.convert("RGB" if image.mode == "RGBA" else "L")
    raise ValueError(f"mode {image.mode}: convert it to 8-bit gray or RGB without transparency first")


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
