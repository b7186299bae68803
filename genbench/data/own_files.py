"""Images of your own: a folder of image files, with what lies beside them, or an array."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from genbench.condition import Kind
from genbench.data.array_file import agreed, read_arrays
from genbench.data.captions import CaptionFile, Sidecars
from genbench.data.conditioning import Conditioning
from genbench.data.image_files import Files, class_files, class_folders, flat_files
from genbench.data.paired_files import Beside, HoleFiles, InFiles, MapFiles, SmallFiles
from genbench.data.picture import open_picture
from genbench.data.refusals import Refusal
from genbench.data.source import MADE, UNUSED, Paired, Place, Source, Split, absent, rank_in_class, split_of, stamp
from genbench.data.words import stored
from genbench.records.class_names import listed
from genbench.support.errors import BadInput, GenbenchError
from genbench.support.validation import OneOf

IMAGE_SHAPES = "give N x C x H x W, N x H x W x C or N x H x W"


class Folder(Source):
    """A folder of image files, flat or with one folder per class; the test split is a fraction or has a folder."""

    path: str
    test_path: str | None = None
    test_fraction: float = Field(0.1, gt=0, lt=1)
    layout: Literal["flat", "classes"] = "flat"
    condition: Annotated[
        Conditioning | None, OneOf(*MADE, CaptionFile, Sidecars, MapFiles, HoleFiles, SmallFiles)
    ] = Field(None, exclude_if=absent)  # fmt: skip

    def splits(self, place: Place) -> tuple[Split, Split]:
        folders = self._folders(place)
        files, *others = folders
        beside = self.condition.beside(place, folders) if isinstance(self.condition, InFiles) else [Beside(())] * 2
        if others:
            return self._split(files, beside[0]), self._split(others[0], beside[1])
        test = rank_in_class(files.labels) >= 1 - self.test_fraction
        return self._split(files, beside[0], ~test), self._split(files, beside[0], test)

    def state(self, place: Place) -> list[Any]:
        """A digest of every file's name, class, size, mtime and ctime, and of the names of classes and other files.

        The files of a condition have their own.
        """
        content = hashlib.sha256()
        folders = self._folders(place)
        for files in folders:
            for name, label in zip(files.names, files.labels):
                content.update(os.fsencode(name) + f"\0{label} {_stamp(files.folder / name)}\0".encode())
            for name in (*files.classes, *files.others):
                content.update(os.fsencode(name) + b"\0")
            content.update(b"\0")
        content.update(b"\0" * (2 - len(folders)))
        beside = self.condition.state(place, folders) if isinstance(self.condition, InFiles) else []
        return [content.hexdigest(), *beside]

    def names_of_classes(self, place: Place) -> tuple[str, ...]:
        try:
            return tuple(class_folders(place.path(self.path))) if self.num_classes and self.layout == "classes" else ()
        except GenbenchError:
            return ()

    def _folders(self, place: Place) -> list[Files]:
        """The training folder, and the test folder if there is one."""
        train = self._files(place.path(self.path))
        if self.num_classes and self.layout == "flat":
            message = f"{train.folder}: num_classes = {self.num_classes}, but the images have no classes"
            raise BadInput(message, 'sort them into one folder per class and set layout = "classes"')
        if self.num_classes and len(train.classes) != self.num_classes:
            message = f"{train.folder}: {len(train.classes)} class folders, but num_classes = {self.num_classes}"
            raise BadInput(message, f"correct num_classes or the folders: {listed(train.classes)}")
        return [train, *([self._files(place.path(self.test_path))] if self.test_path else [])]

    def _files(self, folder: Path) -> Files:
        if not folder.is_dir():
            raise BadInput(f"{folder}: not a folder", "give a folder of images")
        if self.layout == "flat":
            return self._images_of(flat_files(folder))
        named = class_folders(folder)
        files = class_files(folder, list(enumerate(named.values())), tuple(named))
        if not files.names:
            raise BadInput(f"{folder}: no images, and no class folders", "make a folder for each class")
        return self._images_of(files)

    def _images_of(self, files: Files) -> Files:
        return self.condition.images_of(files) if isinstance(self.condition, InFiles) else files

    def _split(self, files: Files, beside: Beside, chosen: np.ndarray | None = None) -> Split:
        """All files, or those for which `chosen` (N,) is true."""
        indices = np.arange(len(files.names)) if chosen is None else np.flatnonzero(chosen)
        given = [beside.given[int(i)] for i in indices] if beside.given else [None] * len(indices)
        items = self._items([files.folder / files.names[i] for i in indices], files.labels[indices], given)
        texts: dict[Kind, dict[str, np.ndarray]] = {}
        if isinstance(self.condition, CaptionFile | Sidecars):
            texts = {"text": {"captions": stored(given)}}
        left = replace(files, others=tuple(name for name in files.others if name not in beside.used))
        unused = (f"{len(files.classes)} class folders are {UNUSED}",) if files.classes and not self.num_classes else ()
        return Split(len(indices), items, texts, files.classes, (*left.remarks, *beside.remarks, *unused))

    def _items(
        self, files: Sequence[Path], labels: np.ndarray, given: Sequence[str | Path | Refusal | None]
    ) -> Iterator[tuple[np.ndarray | Paired | Refusal, int]]:  # fmt: skip
        for file, label, beside in zip(files, labels, given):
            where, read = str(file), partial(open_picture, file)
            if isinstance(beside, Refusal):
                yield beside, int(label)
            elif isinstance(beside, Path):
                yield self.paired(where, read, str(beside), partial(open_picture, beside)), int(label)
            else:
                yield self.taken(where, read), int(label)


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
        images, labels, remarks = self._load(place, self.path, self.labels_path)
        if self.test_labels_path and not self.test_path:
            raise BadInput(f"test_labels_path = {self.test_labels_path!r} without test_path", "give both or neither")
        if self.test_path:
            test_images, test_labels, _ = self._load(place, self.test_path, self.test_labels_path)
            return replace(split_of(images, labels), remarks=remarks), split_of(test_images, test_labels)
        test = rank_in_class(labels) >= 1 - self.test_fraction
        return replace(split_of(images, labels, ~test), remarks=remarks), split_of(images, labels, test)

    def state(self, place: Place) -> list[Any]:
        paths = (self.path, self.labels_path, self.test_path, self.test_labels_path)
        return [stamp(place.path(path)) for path in paths if path]

    def _load(
        self, place: Place, path: str, labels_path: str | None
    ) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:  # fmt: skip
        """Images, labels, and what a user should know of labels that are not used."""
        file = place.path(path)
        loaded, own = read_arrays(file)
        images = self.checked(file, loaded)
        labels = own
        if labels_path:
            given = place.path(labels_path)
            labels = agreed(read_arrays(given)[0], given, own, file)
            if not self.num_classes:
                wanted = f"num_classes = {labels.max() + 1}" if labels.size and labels.dtype.kind in "iu" else "it"
                raise BadInput(f"{given}: labels, but num_classes is not set", f"set {wanted}, or leave the labels out")
        if not self.num_classes:
            unused = (f"the array `labels` of {file.name} is {UNUSED}",) if labels is not None else ()
            return images, np.broadcast_to(-1, len(images)), unused
        if labels is None or labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            what = "no labels" if labels is None else f"labels of type {labels.dtype} and shape {labels.shape}"
            needs = f"num_classes = {self.num_classes} needs one label per image"
            hint = "add an array `labels` to the .npz file, or name a .npy file by labels_path"
            raise BadInput(f"{file}: {needs}: {what} for {len(images):,} images", hint)
        return images, labels, ()

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


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """The file's stamp, None for one that is not there: reading it says so."""
    try:
        return stamp(file)
    except OSError:
        return None
