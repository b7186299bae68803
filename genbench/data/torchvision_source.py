"""Datasets of torchvision: its classes read their files, and are watched while they open pictures."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from pydantic import field_validator

from genbench.data.picture import open_picture, plain
from genbench.data.refusals import Refusal, Unfit
from genbench.data.source import Place, Source, Split, stamps
from genbench.support.errors import BadInput, EnvironmentProblem, GenbenchError, did_you_mean, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

GENBENCHS_OWN = {"root", "download", "transform", "target_transform", "transforms", "loader"}
"""Arguments of torchvision's datasets that a datasets file may not set: genbench decides on folders and pixels."""
FOLDERS = {"ImageFolder", "DatasetFolder"}
"""Classes that give both splits the same images, and leave out in silence what they do not know."""


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
        return self._split(place, "train", self.train), self._split(place, "test", self.test)

    def state(self, place: Place) -> list[Any]:
        """All files in the folders of the dataset's name; in the whole data root if it keeps its files elsewhere."""
        build = self._class()
        if not _takes(build, "root"):
            return []
        declared = {getattr(build, "base_folder", None), "lsun" if self.dataset == "LSUN" else None}
        inside = sorted(place.data_root.iterdir()) if place.data_root.is_dir() else []
        own = [path for path in inside if path.is_dir() and (path.name in declared or self._is_named(path))]
        return [stamps(folder) for folder in own or [place.data_root]]

    def _is_named(self, folder: Path) -> bool:
        """Whether a folder is called like the dataset, as `food-101` is for Food101."""
        name, wanted = (re.sub("[^a-z0-9]", "", text.lower()) for text in (folder.name, self.dataset))
        return re.match(f"{wanted}(?![a-z])", name) is not None

    def _class(self) -> Any:
        import torchvision

        build = getattr(torchvision.datasets, self.dataset, None)
        if not (isinstance(build, type) and issubclass(build, torchvision.datasets.VisionDataset)):
            known = set(torchvision.datasets.__all__)
            message = f"dataset = {self.dataset!r}: torchvision has no such dataset"
            raise BadInput(message, did_you_mean(self.dataset, known))
        if self.dataset in FOLDERS:
            hint = 'use source = "folder" with path and layout = "classes"'
            raise BadInput(f"dataset = {self.dataset!r}: a folder of your own", hint)
        return build

    def _split(self, place: Place, name: str, arguments: dict[str, Any]) -> Split:
        images = self._open(place, arguments)
        try:
            count = len(images)
        except (TypeError, NotImplementedError) as error:
            raise BadInput(f"{self.dataset}: it does not say how many images it has", "use another dataset") from error
        names = getattr(images, "classes", None)
        named = isinstance(names, list | tuple) and len(names) == self.num_classes
        classes = tuple(map(str, names)) if named and names else ()
        return Split(count, (self._item(images, name, index) for index in range(count)), classes=classes)

    def _item(self, images: Any, name: str, index: int) -> tuple[np.ndarray | Refusal, Any]:
        label = None

        def read() -> Any:
            nonlocal label
            with _watched():
                item = images[index]
            if not (isinstance(item, tuple) and len(item) == 2):
                raise Unfit("no pair of a picture and a label", type(item).__name__, "use another dataset")
            image, label = item
            return image

        return self.taken(f"{self.dataset}, {name} image {index}", read), label

    def _open(self, place: Place, arguments: dict[str, Any]) -> Any:
        build = self._class()
        downloads = _takes(build, "download")
        root = place.data_root / "lsun" if self.dataset == "LSUN" else place.data_root
        rooted = {"root": root} if _takes(build, "root") else {}
        try:
            with _no_pickled_keys():
                return build(**rooted, **arguments)
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
                return build(**rooted, **arguments, download=True)
            except Exception as failure:
                raise EnvironmentProblem(f"{where} and cannot be downloaded ({first_line(failure)})", hint) from failure


def _takes(build: Any, argument: str) -> bool:
    """Whether a dataset's constructor has this argument, or hands it on to one that does."""
    for kind in build.__mro__:
        parameters = inspect.signature(kind.__init__).parameters
        if argument in parameters:
            return True
        if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            break
    return False


@contextmanager
def _watched() -> Iterator[None]:
    """Check each picture that is opened meanwhile: torchvision turns it to RGB, and drops what that cannot hold."""
    from PIL import Image as PIL

    before: Any = PIL.open

    def opened(file: Any, *_: Any, **__: Any) -> Image:
        name = getattr(file, "name", file)
        try:
            image = open_picture(Path(file) if isinstance(file, str) else file, before)
            plain(image)
        except Unfit as why:
            where = f"{name}: " if isinstance(name, str | Path) else ""
            raise Unfit(why.reason, f"{where}{why.detail}", why.hint) from why
        return image

    PIL.open = opened  # type: ignore[assignment]
    try:
        yield
    finally:
        PIL.open = before


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
