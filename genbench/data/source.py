"""What every source of images has: two splits of uint8 images (C, H, W) with labels, read one at a time."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from genbench.condition import ConditionSpec, Kind
from genbench.data.conditioning import Conditioning, Frame, OfPicture
from genbench.data.observations import HoleObservation, SmallObservation
from genbench.data.picture import as_levels, decoding
from genbench.data.refusals import Refusal, Unfit
from genbench.records.record import Entropy
from genbench.support.denials import look
from genbench.support.errors import BadInput, first_line
from genbench.support.store import release
from genbench.support.validation import OneOf

if TYPE_CHECKING:
    from PIL.Image import Image

    from genbench.data.dataset import KnownLaw

SIDES = (8, 512)
UNUSED = "not used, since num_classes is not set"
"""What a remark says of labels."""
RELEASED = 1024
"""Images read between two releases of a memory-mapped array."""


@dataclass(frozen=True)
class Paired:
    """A uint8 image (C, H, W) with the main array of its condition, which was read beside it."""

    image: np.ndarray
    condition: np.ndarray


@dataclass(frozen=True)
class Split:
    """`count` pairs of a uint8 image (C, H, W), or of why there is none, and its label, -1 if it has none.

    `conditions` has what else the images are conditioned on, unless they are `Paired` with it: of each kind its arrays
    by name, each with `count` first; the main one has the kind's name, but of text they are its `captions`, as strings.
    `classes` are the names of the labels, if these have names; `remarks` say what a user should know, one clause each.
    """

    count: int
    items: Iterable[tuple[np.ndarray | Paired | Refusal, Any]]
    conditions: Mapping[Kind, Mapping[str, np.ndarray]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a source may look: the folder of its datasets file, the data root, and no network if `offline`."""

    base: Path
    data_root: Path
    offline: bool = False

    def path(self, text: str) -> Path:
        """A path from the datasets file, relative to that file; `~` is the home folder.

        Raises BadInput if it is missing, or as `look`.
        """
        if "$" in text:
            raise BadInput(
                f"path {text!r}: variables are not expanded", "write the path out, or use ~ for the home folder"
            )
        try:
            path = look(self.base / Path(text).expanduser(), "path")
            if not path.exists():
                raise BadInput(f"{path}: no such file or folder", "correct `path` in the datasets file")
        except (RuntimeError, ValueError) as error:
            raise BadInput(f"path {text!r}: {first_line(error)}", "correct `path` in the datasets file") from error
        return path


MADE = (HoleObservation, SmallObservation)
"""The conditions that images of any source may have."""


def absent(condition: Conditioning | None) -> bool:
    """Whether an entry has no condition, which is then no part of what the images depend on."""
    return condition is None


class Source(BaseModel):
    """A kind of source, and the keys that every entry of a datasets file has; each kind adds its own as fields.

    A kind is an entry of `genbench.data.sources.SOURCES`, or is registered by a plugin's hook `register_sources`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    title: str = ""
    shape: tuple[Literal[1, 3], int, int]
    num_classes: int = Field(0, ge=0, le=100_000)
    extractors: tuple[str, ...] = ()
    crop: int | None = Field(None, ge=1)
    condition: Annotated[Conditioning | None, OneOf(*MADE)] = Field(None, exclude_if=absent)
    """What its images are conditioned on, beside their labels."""
    _turned: int = PrivateAttr(0)

    def model_post_init(self, context: object) -> None:
        low, high = SIDES
        if not all(low <= side <= high for side in self.shape[1:]):
            raise ValueError(f"shape: sides must be {low} to {high} pixels")
        try:
            self.conditions()
        except ValueError as why:
            raise ValueError(f"condition: {why}") from None

    @abstractmethod
    def splits(self, place: Place) -> tuple[Split, Split]:
        """The training split and the test split. Raises BadInput or EnvironmentProblem if they cannot be read."""

    @abstractmethod
    def state(self, place: Place) -> list[Any]:
        """JSON values that change with the source's files, found without reading images; [] if it reads no files.

        The images are prepared again when they change. `stamp(path)` is one file's.
        """

    def conditions(self) -> tuple[ConditionSpec, ...]:
        """What its images are conditioned on, apart from the class label, which `num_classes` says.

        A split has all of these in `conditions` but what `condition` makes of the images, or reads beside them.
        """
        return (self.condition.spec(self.shape),) if self.condition else ()

    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of condition that its images have."""
        return (*(("class",) if self.num_classes else ()), *(condition.kind for condition in self.conditions()))

    def names_of_classes(self, place: Place) -> tuple[str, ...]:
        """The names of its classes by label, if they can be known without reading images; else ()."""
        return ()

    def entropy(self, conditional: bool) -> Entropy | None:
        """The entropy of the images' distribution, or of an image given its label; None if unknown."""
        return None

    def law(self) -> KnownLaw | None:
        """The distribution that the images were drawn from; None if unknown."""
        return None

    def judge(self) -> str:
        """The name of what tells whether samples are what their conditions say (`genbench.evaluate.judges`); or ""."""
        return ""

    @property
    def turned(self) -> int:
        """How many of the images converted so far were rotated or mirrored to match their EXIF orientation."""
        return self._turned

    def convert(self, image: Image) -> np.ndarray:
        """The image as uint8 (C, H, W) in the entry's shape: upright, cropped, resized with antialiasing.

        Raises Unfit, a ValueError, for one that levels cannot hold.
        """
        levels, turned = as_levels(image, self.shape, self.crop, self.condition.step if self.condition else 1)
        self._turned += turned
        return levels

    def taken(self, where: str, read: Callable[[], Any]) -> np.ndarray | Refusal:
        """The picture that `read` returns, converted; or why it cannot be, to be reported by where it stands.

        With it an item does not end its split: all images that cannot be used are named and counted together.
        """
        try:
            with decoding():
                return self.convert(read())
        except Unfit as why:
            return Refusal.of(where, why)

    def paired(
        self, where: str, read: Callable[[], Image], beside: str, other: Callable[[], Image]
    ) -> Paired | Refusal:  # fmt: skip
        """As `taken`, with what the entry's condition has of a second picture, `beside`, which `other` returns."""
        assert isinstance(self.condition, OfPicture)
        pictures: list[Image] = []

        def opened() -> Image:
            pictures.append(read())
            return pictures[0]

        image = self.taken(where, opened)
        if isinstance(image, Refusal):
            return image
        try:
            with decoding(), other() as picture:
                return Paired(image, self.condition.row(picture, Frame.of(pictures[0], self.shape, self.crop)))
        except Unfit as why:
            return Refusal.of(beside, why)


def stamp(path: Path) -> tuple[int, int, int]:
    """A file's size in bytes, and mtime and ctime in ns: a copy may restore the mtime, but never the ctime."""
    about = path.stat()
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns


def stamps(path: Path) -> list[tuple[str, int, int, int]]:
    """The stamps of a file, or of all files below a folder, by name; links are followed, each folder is read once."""
    if path.is_file():
        return [(path.name, *stamp(path))]
    found: list[tuple[str, int, int, int]] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(name for name in folders if os.path.realpath(Path(parent, name)) not in seen)
        seen.update(os.path.realpath(Path(parent, name)) for name in folders)
        files = (Path(parent, name) for name in sorted(names))
        found += [(str(file.relative_to(path)), *stamp(file)) for file in files if file.is_file()]
    return found


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """For each image the share of its class that precedes it, in [0, 1): a split by it keeps the class proportions."""
    order = np.argsort(labels, kind="stable")
    _, first, counts = np.unique(labels[order], return_index=True, return_counts=True)
    ranks = np.empty(len(labels))
    ranks[order] = (np.arange(len(labels)) - np.repeat(first, counts)) / np.repeat(counts, counts)
    return ranks


def split_of(images: np.ndarray, labels: np.ndarray, chosen: np.ndarray | None = None) -> Split:
    """All images of an array, or those for which `chosen` (N,) is true; a memory-mapped array is read one by one."""
    indices = np.arange(len(images)) if chosen is None else np.flatnonzero(chosen)

    def items() -> Iterator[tuple[np.ndarray, int]]:
        for place, index in enumerate(indices):
            yield images[index], int(labels[index])
            if place % RELEASED == 0:
                release(images)

    return Split(len(indices), items())
