"""Samples made elsewhere: a folder of images, .npy or .npz, checked against the dataset they imitate."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genbench.condition import Kind, as_kind
from genbench.data.array_file import agreed, read_arrays
from genbench.data.dataset import Dataset
from genbench.data.image_files import Files, class_files, class_folders, flat_files
from genbench.data.own_files import IMAGE_SHAPES, Array, Folder
from genbench.data.picture import open_picture, plain
from genbench.data.refusals import Refusal, Refusals, Unfit
from genbench.records.class_names import known, label_of, listed
from genbench.records.record import REFERENCES
from genbench.support import digests
from genbench.support.errors import BadInput
from genbench.support.names import check_name
from genbench.support.seeds import derive_seed

if TYPE_CHECKING:
    from PIL.Image import Image

BLOCK = 1000


@dataclass(frozen=True)
class Stack:
    """uint8 images (N, C, H, W), int64 labels (N,) or None, and a phrase that names their source and its digest.

    `remarks` say what a user should know of what was left out, one clause each.
    """

    images: np.ndarray
    labels: np.ndarray | None
    source: str
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def kind(self) -> Kind | None:
        """The kind of what the samples were drawn under, None for nothing."""
        return as_kind(self.labels is not None)

    @property
    def digest(self) -> str:
        """SHA-256 of pixels and labels, independent of the file they came from."""
        content = hashlib.sha256(repr(self.images.shape).encode())
        for start in range(0, len(self), BLOCK):
            content.update(self.images[start : start + BLOCK].tobytes())
        if self.labels is not None:
            content.update(b"labels" + self.labels.tobytes())
        return content.hexdigest()

    def subset(self, count: int | None, seed: int) -> Stack:
        """`count` of the images in their order, chosen by the seed; all of them if `count` is None."""
        if count is None or count == len(self):
            return self
        if count > len(self):
            raise BadInput(f"--samples {count}: there are only {len(self)}", f"use at most {len(self)}")
        generator = np.random.default_rng(derive_seed(seed, "foreign samples"))
        chosen = np.sort(generator.choice(len(self), count, replace=False))
        labels = None if self.labels is None else self.labels[chosen]
        source = f"{self.source}, a seeded subset of {count} of {len(self)}"
        return Stack(self.images[chosen], labels, source, self.remarks)


def row_name(given: str | None, path: Path) -> str:
    """The row's name: `given`, or the file's or folder's made legal. Raises BadInput for a reference row's name."""
    if given is None:
        path = path.resolve()
        text = re.sub(r"[^A-Za-z0-9._-]+", "-", path.name if path.is_dir() else path.stem)
        given = text.lstrip("._-")[:64].rstrip(".-") or "samples"
    name = check_name(given, "--name")
    if name.lower() in REFERENCES:
        raise BadInput(f"--name {name}: that is the name of a reference row", "choose another name by --name")
    return name


def open_samples(path: Path, dataset: Dataset, conditional: bool, labels: Path | None, span: str | None) -> Stack:
    """The samples at `path`; `span` declares the range of floats, "0,1". Raises BadInput, naming the file at fault."""
    if conditional and not dataset.num_classes:
        raise BadInput(f"--conditional: dataset {dataset.name!r} has no labels", "leave it out")
    if labels is not None and not conditional:
        raise BadInput("--labels: only for samples drawn given their labels", "add --conditional")
    if not path.exists():
        raise BadInput(f"{path}: no such file or folder", "give a folder of images, a .npy or a .npz")
    own: np.ndarray | None
    remarks: tuple[str, ...] = ()
    if path.is_dir():
        images, files, digest = read_folder(path, dataset, conditional, span)
        own, remarks = files.labels, files.remarks
    else:
        images, own = read_file(path, dataset, span)
        digest = digests.file_digest(path)
        if own is not None and dataset.num_classes and not conditional:
            remarks = ("its labels are not used: --conditional says that the samples were drawn for them",)
    if labels is not None:
        own = agreed(read_arrays(labels)[0], labels, own, path)
    classes = checked_labels(labels or path, own, len(images), dataset) if conditional else None
    if len(images) < 2:
        raise BadInput(f"{path}: {len(images)} image(s)", "a comparison needs at least 2")
    source = f"{path.resolve().name}, samples made elsewhere (SHA-256 {digest[:16]})"
    return Stack(images, classes, source, remarks)


class SampleFolder(Folder):
    """A folder of samples: an image whose size or channels differ from the dataset's is an error, never converted.

    `names` are those of the dataset's classes, by label.
    """

    names: tuple[str, ...] = ()

    def convert(self, image: Image) -> np.ndarray:
        from PIL import ImageOps

        mode, image = image.mode, plain(image)
        width, height = ImageOps.exif_transpose(image).size
        channels, *sides = self.shape
        if (height, width) != tuple(sides):
            wanted = f"the dataset has {sides[0]}x{sides[1]}"
            raise Unfit("another size", f"{height}x{width} pixels, {wanted}", "samples are never resized")
        if (image.mode == "RGB") != (channels == 3):
            wanted = f"the dataset has {channels} channel{'s' * (channels > 1)}"
            found = f"{'colour' if image.mode == 'RGB' else 'gray'}, mode {mode}"
            hint = f"save the samples as {'gray' if channels == 1 else 'RGB'} images"
            raise Unfit("other channels", f"{found}, {wanted}", hint)
        return super().convert(image)

    def files(self, folder: Path, conditional: bool) -> Files:
        """The image files; if conditional, of class folders, with the labels that the dataset gives their names."""
        if not conditional:
            return self._flat(folder)
        hint = f"with --conditional the folder holds one folder per class: {known(self.names, self.num_classes)}"
        classes = class_folders(folder)
        if not classes:
            raise BadInput(f"{folder}: no class folders", hint)
        labels = {name: label_of(name, self.names, self.num_classes) for name in classes}
        if strange := [name for name, label in labels.items() if label is None]:
            raise BadInput(f"{folder}: folders that are no classes of the dataset: {listed(strange)}", hint)
        labelled = ((label, sub) for label, sub in zip(labels.values(), classes.values()) if label is not None)
        return class_files(folder, sorted(labelled))

    def _flat(self, folder: Path) -> Files:
        try:
            return flat_files(folder)
        except BadInput as error:
            if "class folders" not in error.message:
                raise
            raise BadInput(error.message, "give --conditional if they hold the samples of one class each") from error

    def read(self, files: Files) -> np.ndarray:
        """The images, uint8 (N, C, H, W). Raises one BadInput for all that cannot be used."""
        images = np.empty((len(files.names), *self.shape), np.uint8)
        refusals = Refusals(str(files.folder))
        for index, name in enumerate(files.names):
            refusals.seen += 1
            levels = self.taken(str(files.folder / name), partial(open_picture, files.folder / name))
            if isinstance(levels, Refusal):
                refusals.add(levels)
            else:
                images[index] = levels
        refusals.check()
        return images


def read_folder(path: Path, dataset: Dataset, conditional: bool, span: str | None) -> tuple[np.ndarray, Files, str]:
    """The images of a folder, the files that they are from, and a digest of these."""
    if span is not None:
        raise BadInput(f"--range {span}: {path} is a folder of images", "leave it out: image files hold levels 0..255")
    reader = SampleFolder(
        source="folder", path=str(path), shape=dataset.shape, num_classes=dataset.num_classes, names=dataset.classes
    )
    files = reader.files(path, conditional)
    images = reader.read(files)
    content = hashlib.sha256()
    for name in files.names:
        content.update(os.fsencode(name) + f" {digests.file_digest(path / name)}\n".encode())
    return images, files, content.hexdigest()


def read_file(path: Path, dataset: Dataset, span: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The images of a .npy or .npz file, and its labels if it has any."""
    if path.suffix.lower() not in (".npy", ".npz"):
        raise BadInput(f"{path}: unknown kind of file", "give a folder of images, a .npy or a .npz")
    images, labels = read_arrays(path)
    if images.ndim not in (3, 4):
        raise BadInput(f"{path}: an array of shape {images.shape}", IMAGE_SHAPES)
    if images.dtype.kind == "f":
        images = quantized(path, images, span)
    elif span is not None:
        raise BadInput(
            f"--range {span}: {path} holds {images.dtype} pixels", "leave it out: it is for floating-point images"
        )
    return Array(source="array", path=str(path), shape=dataset.shape).checked(path, images), labels


def quantized(path: Path, images: np.ndarray, span: str | None) -> np.ndarray:
    """Levels of float images with black and white as `span` declares them, quantised like all generated images.

    Raises BadInput for images with NaN, infinity or a value outside the range.
    """
    import torch

    from genbench.images import to_uint8

    if span is None:
        raise BadInput(
            f"{path}: {images.dtype} pixels", "store uint8 levels 0..255, or declare their range by --range 0,1 or -1,1"
        )
    low, high = (float(end) for end in span.split(","))
    levels, refusals = np.empty(images.shape, np.uint8), Refusals(str(path))
    for index, image in enumerate(images):
        refusals.seen += 1
        least, most = float(image.min(initial=low)), float(image.max(initial=low))
        if not low <= least <= most <= high:
            values = f"values from {least:g} to {most:g}"
            refusals.add(Refusal(f"image {index}", "outside the range", values, f"--range says {span}"))
            continue
        scaled = (np.asarray(image, np.float64) - low) * (2 / (high - low)) - 1
        levels[index] = to_uint8(torch.from_numpy(np.atleast_1d(scaled))).numpy().reshape(image.shape)
    refusals.check()
    return levels


def checked_labels(path: Path, labels: np.ndarray | None, count: int, dataset: Dataset) -> np.ndarray:
    """Labels as int64 (N,). Raises BadInput unless there is one class of the dataset per image."""
    if labels is None:
        raise BadInput(f"{path}: no labels, which --conditional needs", "add `labels` to a .npz, or give --labels")
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise BadInput(
            f"{path}: labels of type {labels.dtype} and shape {labels.shape}",
            f"give one whole number per image: shape ({count},)",
        )
    bad = np.flatnonzero((labels < 0) | (labels >= dataset.num_classes))
    if len(bad):
        raise BadInput(
            f"{path}: label {labels[bad[0]]} of image {bad[0]} ({len(bad):,} such labels)",
            f"{dataset.name} has the classes 0 to {dataset.num_classes - 1}",
        )
    return labels.astype(np.int64)
