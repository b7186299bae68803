"""Samples made elsewhere: a folder of images, .npy or .npz, checked against the dataset they imitate."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genbench.condition import Kind, as_kind
from genbench.data.array_file import read_arrays
from genbench.data.dataset import Dataset
from genbench.data.own_files import IMAGE_SHAPES, Array, Files, Folder
from genbench.records.record import REFERENCES
from genbench.support import digests
from genbench.support.errors import BadInput
from genbench.support.names import check_name
from genbench.support.seeds import derive_seed

if TYPE_CHECKING:
    from PIL.Image import Image

BLOCK = 1000
BANDS = {"1": 1, "L": 1, "LA": 1, "P": 3, "RGB": 3, "RGBA": 3}


@dataclass(frozen=True)
class Stack:
    """uint8 images (N, C, H, W), int64 labels (N,) or None, and a phrase that names their source and its digest."""

    images: np.ndarray
    labels: np.ndarray | None
    source: str

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
        return Stack(self.images[chosen], labels, f"{self.source}, a seeded subset of {count} of {len(self)}")


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
    if path.is_dir():
        images, own, digest = read_folder(path, dataset, conditional, span)
    else:
        images, own = read_file(path, dataset, span)
        digest = digests.file_digest(path)
    if labels is not None:
        own = read_arrays(labels)[0]
    classes = checked_labels(labels or path, own, len(images), dataset) if conditional else None
    if len(images) < 2:
        raise BadInput(f"{path}: {len(images)} image(s)", "a comparison needs at least 2")
    return Stack(images, classes, f"{path.resolve().name}, samples made elsewhere (SHA-256 {digest[:16]})")


class SampleFolder(Folder):
    """A folder of samples: an image whose size or channels differ from the dataset's is an error, never converted."""

    def convert(self, image: Image) -> np.ndarray:
        from PIL import ImageOps

        file, bands = getattr(image, "filename", "image"), BANDS.get(image.mode)
        width, height = ImageOps.exif_transpose(image).size
        channels, *sides = self.shape
        if (height, width) != tuple(sides):
            raise BadInput(
                f"{file}: {height}x{width} pixels, but the dataset has {sides[0]}x{sides[1]}",
                "samples are never resized",
            )
        if bands is not None and bands != channels:
            raise BadInput(
                f"{file}: {'colour' if bands == 3 else 'gray'} (mode {image.mode}), but the dataset has {channels} "
                f"channel{'s' * (channels > 1)}",
                f"save the samples as {'gray' if channels == 1 else 'RGB'} images",
            )
        return super().convert(image)

    def files(self, folder: Path, conditional: bool) -> Files:
        """The image files, sorted by name; their labels are the names of their folders if conditional, else -1."""
        try:
            if not conditional:
                return self._files(folder)
            classes = sorted((sub for sub in folder.iterdir() if sub.is_dir()), key=lambda sub: sub.name)
            for sub in classes:
                if not re.fullmatch("[0-9]{1,6}", sub.name) or int(sub.name) >= self.num_classes:
                    raise BadInput(f"{sub}: not a class of the dataset", f"0 to {self.num_classes - 1}")
            if not classes:
                raise BadInput(f"{folder}: no class folders", "name them 0, 1, ...")
            return Files.of_classes(folder, ((sub, int(sub.name), self._files(sub).names) for sub in classes))
        except BadInput as error:
            if "class" not in error.message:
                raise
            hint = "with --conditional the folder holds one folder per class, named 0, 1, ...; without it, images"
            raise BadInput(error.message, hint) from error

    def read(self, files: Files) -> np.ndarray:
        """The images, uint8 (N, C, H, W)."""
        images = np.empty((len(files.names), *self.shape), np.uint8)
        for index, name in enumerate(files.names):
            images[index] = self._read(files.folder / name)
        return images


def read_folder(
    path: Path, dataset: Dataset, conditional: bool, span: str | None
) -> tuple[np.ndarray, np.ndarray, str]:  # fmt: skip
    """Images, labels and digest of a folder of image files."""
    if span is not None:
        raise BadInput(f"--range {span}: {path} is a folder of images", "leave it out: image files hold levels 0..255")
    reader = SampleFolder(source="folder", path=str(path), shape=dataset.shape, num_classes=dataset.num_classes)
    files = reader.files(path, conditional)
    images = reader.read(files)
    content = hashlib.sha256()
    for name in files.names:
        content.update(f"{name} {digests.file_digest(path / name)}\n".encode())
    return images, files.labels, content.hexdigest()


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

    Raises BadInput naming the first image with NaN, infinity or a value outside the range.
    """
    import torch

    from genbench.images import to_uint8

    if span is None:
        raise BadInput(
            f"{path}: {images.dtype} pixels", "store uint8 levels 0..255, or declare their range by --range 0,1 or -1,1"
        )
    low, high = (float(end) for end in span.split(","))
    levels = np.empty(images.shape, np.uint8)
    for index, image in enumerate(images):
        least, most = float(image.min(initial=low)), float(image.max(initial=low))
        if not low <= least <= most <= high:
            raise BadInput(f"{path}: image {index} has values from {least:g} to {most:g}", f"--range says {span}")
        scaled = (np.asarray(image, np.float64) - low) * (2 / (high - low)) - 1
        levels[index] = to_uint8(torch.from_numpy(np.atleast_1d(scaled))).numpy().reshape(image.shape)
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
            f"{path}: label {labels[bad[0]]} of image {bad[0]}",
            f"{dataset.name} has the classes 0 to {dataset.num_classes - 1}",
        )
    return labels.astype(np.int64)
