"""A prepared dataset: its two splits, memory-mapped, and the order in which training sees the images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genbench.condition import ConditionSpec, Kind, as_kind
from genbench.records.class_names import listed
from genbench.records.record import DatasetStamp, Entropy, tuning_name
from genbench.support import store
from genbench.support.seeds import derive_seed

if TYPE_CHECKING:
    from genbench.model import DataSpec


@dataclass(frozen=True)
class EncodedTexts:
    """What a frozen encoder made of captions: `texts` float16 (K, L, D), of which each image has that at `places` (N,).

    `texts` may be memory-mapped.
    """

    texts: np.ndarray
    places: np.ndarray

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Those of some images, float32 (B, L, D)."""
        found: np.ndarray = self.texts[self.places[indices]].astype(np.float32)
        store.release(self.texts)
        return found


@dataclass(frozen=True)
class Part:
    """One split: uint8 images (N, C, H, W), memory-mapped, and int64 labels (N,), or None.

    `conditions` are those of other kinds: of each kind its arrays by name, each with N first. `sizes` are those of
    their `ConditionSpec`.
    """

    images: np.ndarray
    labels: np.ndarray | None
    conditions: Mapping[Kind, Mapping[str, np.ndarray]] = field(default_factory=dict)
    sizes: Mapping[Kind, int] = field(default_factory=dict)
    encoded: EncodedTexts | None = None
    """Its captions as a frozen encoder made them, where a job conditions on these."""

    def __len__(self) -> int:
        return len(self.images)


class KnownLaw(ABC):
    """A known distribution that images were drawn from, and what conditions of some kinds leave open of them."""

    kinds: ClassVar[tuple[Kind, ...]]
    """The kinds of these conditions."""

    @abstractmethod
    def answers(
        self, kind: Kind, part: Part, places: np.ndarray, random: np.random.Generator | None = None
    ) -> np.ndarray:  # fmt: skip
        """Levels, not rounded, (N, D): an image drawn given each condition of a split at `places` (N,).

        Without `random` they are the means of all such images.
        """

    def entropies(self, test: Part) -> Mapping[Kind | None, Entropy]:
        """By kind that of an image given its condition, as a mean over those of the test images, where it is known."""
        return {}


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset; `digest` is the SHA-256 of its pixels and labels, whatever its name or source.

    `overlap` counts the test images that are training images too. `entropies` are those of the distribution the images
    were drawn from (None), and of an image given its label ("class") or a condition, by kind, as far as they are known.
    """

    name: str
    title: str
    digest: str
    shape: tuple[int, int, int]
    num_classes: int
    extractors: tuple[str, ...]
    overlap: int
    folder: Path
    train: Part
    test: Part
    entropies: Mapping[Kind | None, Entropy] = field(default_factory=dict)
    distinct: int | None = None
    """Distinct training images; None if they were not counted."""
    turned: int = 0
    """Images rotated or mirrored to match their EXIF orientation."""
    conditions: tuple[ConditionSpec, ...] = ()
    """What the images have to be conditioned on, beside their labels."""
    law: KnownLaw | None = None
    """The distribution that the images were drawn from; None if unknown."""
    classes: tuple[str, ...] = ()
    """The names of the classes by label, () if they have none."""
    words: tuple[str, ...] = ()
    """The vocabulary of its captions, if they are what it conditions on."""
    judge: str = ""
    """See `Source.judge`."""
    noted: tuple[str, ...] = ()
    """Remarks of its preparation."""
    tuning: bool = False
    """Whether its test images are training images that were held out, so that options can be chosen on them."""
    encoded: Path | None = None
    """The folder with its captions as a frozen encoder made them, if that is what it conditions on."""

    @property
    def remarks(self) -> list[str]:
        """What anyone who trains on these images should know, one clause each."""
        remarks = []
        if self.tuning:
            apart, count = len(self.test), len(self.train) + len(self.test)
            remarks.append(
                f"{apart:,} of {count:,} training images are held out for tuning; its test images stay unseen"
            )
        if self.overlap:
            which = "held-out" if self.tuning else "test"
            remarks.append(f"{self.overlap:,} {which} images are also training images: copying them is rewarded")
        if self.distinct == 1:
            remarks.append("all training images are identical")
        if self.turned:
            plural = "s" * (self.turned > 1)
            remarks.append(f"{self.turned:,} image{plural} rotated or mirrored to match the EXIF orientation")
        if absent := self._absent():
            named = [self.classes[label] if self.classes else str(label) for label in absent]
            counted = " (are labels counted from 1?)" if absent == [0] else ""
            remarks.append(f"no training images of {len(absent):,} of its classes: {listed(named)}{counted}")
        return [*remarks, *self.noted]

    def _absent(self) -> list[int]:
        """The labels that no training image has."""
        labels = self.train.labels
        there = np.bincount(labels, minlength=self.num_classes) if labels is not None else np.ones(0)
        return [int(label) for label in np.flatnonzero(there == 0)]

    def __getstate__(self) -> dict[str, Any]:
        """The state without the images, which this process has checked and another one maps into its own memory."""
        return vars(self) | {"train": None, "test": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        parts = read_parts(state["folder"], state["num_classes"], state["conditions"], state["encoded"])
        vars(self).update(state | parts)

    def condition(self, kind: Kind | None) -> ConditionSpec | None:
        """What a job of this kind is conditioned on; None too for the class, which needs no more than its number."""
        return next((condition for condition in self.conditions if condition.kind == kind), None)

    def law_given(self, kind: Kind | None) -> KnownLaw | None:
        """The distribution of images, if it is known what conditions of this kind leave open of them."""
        return self.law if self.law is not None and kind in self.law.kinds else None

    def stamp(self, kind: Kind | bool | None) -> DatasetStamp:
        """What the record of a job that conditions on this kind (True: the class) keeps of the dataset."""
        return DatasetStamp(
            name=tuning_name(self.name) if self.tuning else self.name, tuning=self.tuning, digest=self.digest,
            shape=self.shape, num_classes=self.num_classes,
            counts={"train": len(self.train), "test": len(self.test)}, entropy=self.entropies.get(as_kind(kind)),
            classes=self.classes, words=self.words if as_kind(kind) == "text" else (),
        )  # fmt: skip

    def spec(self, kind: Kind | bool | None) -> DataSpec:
        """What the model of a job that conditions on this kind (True: the class) is built from."""
        from genbench.model import DataSpec

        kind = as_kind(kind)
        return DataSpec(self.name, self.shape, self.num_classes if kind == "class" else 0, self.condition(kind))

    def batch_at(self, seed: int, seen: int, size: int) -> np.ndarray:
        """Indices (size,) of the training images after the first `seen`: a new permutation every epoch.

        A pure function of its arguments, so a resumed run needs no generator state.
        """
        count = len(self.train)
        epochs = range(seen // count, (seen + size - 1) // count + 1)
        order = [permutation(count, seed, epoch) for epoch in epochs]
        first = seen - epochs[0] * count
        return (order[0] if len(order) == 1 else np.concatenate(order))[first : first + size]


@lru_cache(maxsize=2)
def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch's images (count,)."""
    return np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(count)


def read_encoded(folder: Path, split: str) -> EncodedTexts:
    """The encoded captions of a split, memory-mapped (`genbench.data.encoders`)."""
    return EncodedTexts(store.read_array(folder / "texts.npy"), store.read_array(folder / f"{split}.npy"))


def read_parts(
    folder: Path, num_classes: int, conditions: Sequence[ConditionSpec], encoded: Path | None = None
) -> dict[str, Part]:
    """The prepared splits of a folder, memory-mapped, with the captions that another folder has encoded."""
    parts = {}
    for name in ("train", "test"):
        labels = store.read_array(folder / f"{name}_labels.npy") if num_classes else None
        others = {
            kind: {file.stem.removeprefix(prefix): store.read_array(file) for file in folder.glob(f"{prefix}*.npy")}
            for kind, prefix in ((condition.kind, f"{name}_{condition.kind}_") for condition in conditions)
        }
        sizes = {condition.kind: condition.size for condition in conditions}
        texts = read_encoded(encoded, name) if encoded else None
        parts[name] = Part(store.read_array(folder / f"{name}_images.npy"), labels, others, sizes, texts)
    return parts
