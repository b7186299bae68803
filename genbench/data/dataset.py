"""A prepared dataset: its two splits, memory-mapped, and the order in which training sees them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genbench import store
from genbench.seeds import derive_seed

if TYPE_CHECKING:
    from genbench.model import DataSpec
    from genbench.records import Entropy


@dataclass(frozen=True)
class Part:
    """One split: uint8 images (N, C, H, W), memory-mapped, and int64 labels (N,), or None."""

    images: np.ndarray
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset; `digest` is the SHA-256 of its pixels and labels, whatever its name or source.

    `entropy` is that of the distribution the images were drawn from, `entropy_given_label` that of an image whose label
    is known; both None where the distribution is not known.
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
    entropy: Entropy | None = None
    entropy_given_label: Entropy | None = None
    distinct: int | None = None
    """Training images that differ from one another; None where they were not counted."""
    turned: int = 0
    """Images that had an EXIF orientation."""

    @property
    def remarks(self) -> list[str]:
        """What somebody who trains on these images should know, a sentence each."""
        found = []
        if self.overlap:
            found.append(f"{self.overlap:,} test images are among the training images: copying them is rewarded")
        if self.distinct == 1:
            found.append("all training images are the same")
        if self.turned:
            found.append(f"{self.turned:,} image{'s' * (self.turned > 1)} turned as the EXIF orientation says")
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Without the images, which another process maps into its memory itself."""
        return vars(self) | {"train": None, "test": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state | read_parts(state["folder"], state["num_classes"]))

    def spec(self, conditional: bool) -> DataSpec:
        """What a model is built for."""
        from genbench.model import DataSpec

        return DataSpec(self.name, self.shape, self.num_classes if conditional else 0)

    def batch_at(self, seed: int, seen: int, size: int) -> np.ndarray:
        """Indices of the `size` training images that follow after `seen`: a new permutation every epoch.

        A pure function of its arguments, so that a resumed run needs no generator state.
        """
        count = len(self.train)
        epochs = range(seen // count, (seen + size - 1) // count + 1)
        order = [permutation(count, seed, epoch) for epoch in epochs]
        first = seen - epochs[0] * count
        return (order[0] if len(order) == 1 else np.concatenate(order))[first : first + size]


@lru_cache(maxsize=2)
def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch."""
    return np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(count)


def read_parts(folder: Path, num_classes: int) -> dict[str, Part]:
    """The prepared splits of a folder, memory-mapped."""
    parts = {}
    for name in ("train", "test"):
        labels = store.read_array(folder / f"{name}_labels.npy") if num_classes else None
        parts[name] = Part(store.read_array(folder / f"{name}_images.npy"), labels)
    return parts
