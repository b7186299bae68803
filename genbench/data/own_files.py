"""Images of your own: a folder of image files, or an array."""

from __future__ import annotations

import hashlib
import os
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from genbench.data.array_file import read_arrays
from genbench.data.source import Place, Source, Split, rank_in_class, split_of, stamp
from genbench.support.errors import BadInput, EnvironmentProblem, first_line

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
IGNORED_NAMES = {".DS_Store", "Thumbs.db", "__MACOSX"}
IMAGE_SHAPES = "give N x C x H x W, N x H x W x C or N x H x W"


@dataclass(frozen=True)
class Files:
    """Image files by their paths below a folder, unopened, and their classes (N,), -1 if they have none."""

    folder: Path
    names: list[str]
    labels: np.ndarray

    @classmethod
    def of_classes(cls, folder: Path, classes: Iterable[tuple[Path, int, list[str]]]) -> Files:
        """The files of class folders in `folder`, given as (class folder, label, names in it)."""
        names: list[str] = []
        labels = [np.empty(0, np.int64)]
        for sub, label, inside in classes:
            names += [f"{sub.name}/{name}" for name in inside]
            labels.append(np.full(len(inside), label))
        return cls(folder, names, np.concatenate(labels))


class Folder(Source):
    """A folder of image files, flat or with one folder per class; the test split is a fraction or has a folder."""

    path: str
    test_path: str | None = None
    test_fraction: float = Field(0.1, gt=0, lt=1)
    layout: Literal["flat", "classes"] = "flat"

    def splits(self, place: Place) -> tuple[Split, Split]:
        files = self._files(place.path(self.path))
        if self.num_classes and self.layout == "flat":
            message = f"{files.folder}: num_classes = {self.num_classes}, but the images have no classes"
            raise BadInput(message, 'sort them into one folder per class and set layout = "classes"')
        if self.test_path:
            return self._split(files), self._split(self._files(place.path(self.test_path)))
        test = rank_in_class(files.labels) >= 1 - self.test_fraction
        return self._split(files, ~test), self._split(files, test)

    def state(self, place: Place) -> list[Any]:
        """A digest of every file's name, class, size, mtime and ctime."""
        content = hashlib.sha256()
        for path in (self.path, self.test_path):
            if path:
                files = self._files(place.path(path))
                for name, label in zip(files.names, files.labels):
                    content.update(os.fsencode(name) + f"\0{label} {_stamp(files.folder / name)}\0".encode())
            content.update(b"\0")
        return [content.hexdigest()]

    def _files(self, folder: Path) -> Files:
        if not folder.is_dir():
            raise BadInput(f"{folder}: not a folder", "give a folder of images")
        with _listing(folder):
            files = self._flat(folder) if self.layout == "flat" else self._by_class(folder)
            if not files.names:
                hint = f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}"
                raise BadInput(f"{folder}: no images{_others(folder)}", hint)
        return files

    def _flat(self, folder: Path) -> Files:
        names = _images(folder)
        nested = [sub for sub in _subfolders(folder) if _images(sub)]
        if nested and not names:
            raise BadInput(f"{folder}: {len(nested)} class folders and no images beside them", 'set layout = "classes"')
        if nested:
            raise BadInput(
                f"{nested[0]}: a folder of images among images", 'move either away, or set layout = "classes"'
            )
        return Files(folder, names, np.full(len(names), -1))

    def _by_class(self, folder: Path) -> Files:
        classes, stray = _subfolders(folder), _images(folder)
        if stray:
            raise BadInput(
                f"{folder / stray[0]}: an image beside the class folders", "move it into a class, or remove it"
            )
        if self.num_classes and len(classes) != self.num_classes:
            message = f"{folder}: {len(classes)} class folders, but num_classes = {self.num_classes}"
            raise BadInput(message, "correct num_classes or the folders")
        found = [_images(sub) for sub in classes]
        for sub, images in zip(classes, found):
            if not images:
                raise BadInput(f"{sub}: no images{_others(sub)}", "fill the class, or remove its folder")
        return Files.of_classes(folder, zip(classes, count(), found))

    def _split(self, files: Files, chosen: np.ndarray | None = None) -> Split:
        """All files, or those for which `chosen` (N,) is true."""
        indices = np.arange(len(files.names)) if chosen is None else np.flatnonzero(chosen)
        pairs = ((self._read(files.folder / files.names[i]), int(files.labels[i])) for i in indices)
        return Split(len(indices), pairs)

    def _read(self, file: Path) -> np.ndarray:
        from PIL import Image as PIL

        try:
            with PIL.open(file) as image:
                frames = getattr(image, "n_frames", 1)
                if frames > 1:
                    raise BadInput(f"{file}: {frames} frames", "give still images")
                return self.convert(image)
        except PermissionError as error:
            raise EnvironmentProblem(f"{file}: {error.strerror}", "make it readable") from error
        except (OSError, ValueError, SyntaxError, EOFError, struct.error, PIL.DecompressionBombError) as error:
            raise BadInput(
                f"{file}: not a readable image ({first_line(error)})", "replace or remove the file"
            ) from error


class Array(Source):
    """uint8 arrays (N, C, H, W), (N, H, W, C) or (N, H, W): .npy, or .npz with `images` and optionally `labels`.

    A .npy file is memory-mapped, whatever its size, and its labels are a separate file; a .npz file is read whole.
    """

    path: str
    labels_path: str | None = None
    test_path: str | None = None
    test_labels_path: str | None = None
    test_fraction: float = Field(0.1, gt=0, lt=1)

    def splits(self, place: Place) -> tuple[Split, Split]:
        images, labels = self._load(place, self.path, self.labels_path)
        if self.test_labels_path and not self.test_path:
            raise BadInput(f"test_labels_path = {self.test_labels_path!r} without test_path", "give both or neither")
        if self.test_path:
            return split_of(images, labels), split_of(*self._load(place, self.test_path, self.test_labels_path))
        test = rank_in_class(labels) >= 1 - self.test_fraction
        return split_of(images, labels, ~test), split_of(images, labels, test)

    def state(self, place: Place) -> list[Any]:
        paths = (self.path, self.labels_path, self.test_path, self.test_labels_path)
        return [stamp(place.path(path)) for path in paths if path]

    def _load(self, place: Place, path: str, labels_path: str | None) -> tuple[np.ndarray, np.ndarray]:
        file = place.path(path)
        loaded, labels = read_arrays(file)
        images = self.checked(file, loaded)
        if labels_path:
            labels, _ = read_arrays(place.path(labels_path))
        if not self.num_classes:
            return images, np.broadcast_to(-1, len(images))
        if labels is None or labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            what = "no labels" if labels is None else f"labels of type {labels.dtype} and shape {labels.shape}"
            needs = f"num_classes = {self.num_classes} needs one label per image"
            hint = "add an array `labels` to the .npz file, or name a .npy file by labels_path"
            raise BadInput(f"{file}: {needs}: {what} for {len(images):,} images", hint)
        return images, labels

    def checked(self, file: Path, images: np.ndarray) -> np.ndarray:
        """The images as (N, C, H, W) in the entry's shape. Raises BadInput if they are not uint8 of that shape."""
        channels, height, width = self.shape
        if images.ndim not in (3, 4):
            raise BadInput(f"{file}: an array of shape {images.shape}", IMAGE_SHAPES)
        if images.dtype != np.uint8:
            raise BadInput(f"{file}: {images.dtype} pixels", "store uint8 levels 0..255")
        if images.shape[1:] == (height, width) and channels == 1:
            images = images[:, None]
        if images.shape[1:] == (height, width, channels) and channels != height:
            images = images.transpose(0, 3, 1, 2)
        if images.shape[1:] != self.shape:
            message = f"{file}: images of shape {images.shape[1:]}, but the dataset's are {self.shape}"
            raise BadInput(message, "arrays are never resized")
        return images


def _images(folder: Path) -> list[str]:
    """The names of the image files in a folder, sorted."""
    return sorted(
        file.name
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and file.name not in IGNORED_NAMES and not file.name.startswith("._")
    )


def _stamp(file: Path) -> tuple[int, int, int]:
    try:
        return stamp(file)
    except OSError as error:
        message = f"{error.filename}: not a readable image ({error.strerror})"
        raise BadInput(message, "replace or remove the file") from error


def _others(folder: Path) -> str:
    """What a folder has instead of images, counted by suffix."""
    suffixes = Counter(file.suffix.lower() or "without a suffix" for file in folder.iterdir() if file.is_file())
    return f", but {', '.join(f'{n} {suffix}' for suffix, n in suffixes.most_common(5))}" if suffixes else ""


def _subfolders(folder: Path) -> list[Path]:
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and sub.name not in IGNORED_NAMES)


@contextmanager
def _listing(folder: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise EnvironmentProblem(f"{error.filename or folder}: {error.strerror}", "make it readable") from error
