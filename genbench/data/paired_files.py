"""Pictures beside the images of a folder: a map, a mask or a smaller version of each, in a file named after it."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import model_validator

from genbench.data.conditioning import Conditioning, OfHole, OfMap, OfSmall
from genbench.data.image_files import IMAGE_SUFFIXES, Files
from genbench.data.refusals import Refusal
from genbench.data.source import Place, stamps
from genbench.support.errors import BadInput


@dataclass(frozen=True)
class Beside:
    """What a folder's images have beside them: of each its caption, the file that has its condition, or why none.

    `used` are the names of these files below the folder, as `Files` has those of its images.
    """

    given: Sequence[str | Path | Refusal]
    used: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()


class InFiles(Conditioning):
    """A condition that is read from files beside the images of a folder."""

    @abstractmethod
    def beside(self, place: Place, folders: Sequence[Files]) -> list[Beside]:
        """What the images of each folder have: of the training images, or all, and of the test images.

        Raises BadInput for files that cannot be read.
        """

    @abstractmethod
    def state(self, place: Place, folders: Sequence[Files]) -> list[Any]:
        """JSON values that change with these files."""

    def images_of(self, files: Files) -> Files:
        """The files of a folder that are images."""
        return files


class PairedFiles(InFiles):
    """A file for each image, of its name with `suffix` in the place of `image_suffix`, or of what follows the last dot.

    It lies at the same place below `path` as the image in its own folder, or beside the image if there is no `path`;
    those of the test images lie below `test_path`, if that is given.
    """

    path: str | None = None
    test_path: str | None = None
    suffix: str = ".png"
    image_suffix: str | None = None

    @model_validator(mode="after")
    def files_beside_images_can_be_told_from_them(self) -> PairedFiles:
        if self.path is None and self.suffix.lower() in IMAGE_SUFFIXES:
            raise ValueError(f"suffix = {self.suffix!r} without a `path` is that of the images themselves")
        if self.path is None and self.test_path is not None:
            raise ValueError("test_path without a `path`")
        return self

    def images_of(self, files: Files) -> Files:
        if self.path is not None:
            return files
        kept = [place for place, name in enumerate(files.names) if not name.endswith(self.suffix)]
        if not kept:
            raise BadInput(f"{files.folder}: no images but {len(files.names)} *{self.suffix}", "correct `suffix`")
        return replace(files, names=[files.names[place] for place in kept], labels=files.labels[np.array(kept)])

    def state(self, place: Place, folders: Sequence[Files]) -> list[Any]:
        bases = self._bases(place, folders)
        found = [[each for each in stamps(base) if each[0].endswith(self.suffix)] for base in bases]
        return [hashlib.sha256(repr(found).encode("utf-8", "surrogateescape")).hexdigest()]

    def beside(self, place: Place, folders: Sequence[Files]) -> list[Beside]:
        bases = self._bases(place, folders)
        there = {base: self._names(base) for base in bases}
        found = [
            Beside(list(self._each(files, base, there[base])), frozenset(there[base] if base == files.folder else ()))
            for files, base in zip(folders, bases)
        ]
        wanted = {each for beside in found for each in beside.given if isinstance(each, Path)}
        extra = sorted(base / name for base in there for name in there[base] if base / name not in wanted)
        if extra:
            many = f"{len(extra):,} file{'s' * (len(extra) > 1)} *{self.suffix} without an image"
            found[0] = replace(found[0], remarks=(f"left out {many}, such as {extra[0].name}",))
        return found

    def _bases(self, place: Place, folders: Sequence[Files]) -> list[Path]:
        """The folder that the files of each folder lie in."""
        if self.path is None:
            return [files.folder for files in folders]
        if self.test_path is not None and len(folders) < 2:
            raise BadInput("condition: test_path, but the test images have no folder", "give the source a test_path")
        bases = [place.path(self.path), *([place.path(self.test_path or self.path)] if len(folders) > 1 else [])]
        for base in bases:
            if not base.is_dir():
                raise BadInput(f"{base}: not a folder", f"give a folder with a *{self.suffix} for each image")
        return bases

    def _names(self, base: Path) -> set[str]:
        return {name for name, *_ in stamps(base) if name.endswith(self.suffix)}

    def _each(self, files: Files, base: Path, there: set[str]) -> Iterator[Path | Refusal]:
        """The file of each image, or why it has none."""
        keys = [self._key(name) for name in files.names]
        times = Counter(keys)
        for name, key in zip(files.names, keys):
            where = str(files.folder / name)
            if key is None:
                told = f"image_suffix = {self.image_suffix!r}"
                yield Refusal(where, "a name with another ending", told, "correct image_suffix, or remove the image")
            elif key + self.suffix not in there:
                told = f"no file {base / (key + self.suffix)}"
                yield Refusal(where, f"no {self._what}", told, "add it, correct `suffix`, or remove the image")
            elif times[key] > 1:
                told = f"{Path(key).name}{self.suffix} is that of {times[key]} images"
                yield Refusal(where, f"no {self._what} of its own", told, "give each image a name of its own")
            else:
                yield base / (key + self.suffix)

    def _key(self, name: str) -> str | None:
        """What an image's name has in common with that of its file; None if it ends otherwise than all."""
        if self.image_suffix is None:
            return str(Path(name).with_suffix(""))
        return name.removesuffix(self.image_suffix) if name.endswith(self.image_suffix) else None

    @property
    def _what(self) -> str:
        return {"text": "caption", "map": "map", "hole": "mask", "image": "small image"}[self.kind]


class MapFiles(OfMap, PairedFiles):
    """A map of classes for each image."""


class HoleFiles(OfHole, PairedFiles):
    """A black and white mask for each image."""


class SmallFiles(OfSmall, PairedFiles):
    """A small version of each image."""
