"""How the harness handles conditions: passing them to models, planning those of samples, pairing images by them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch

from genbench.condition import EACH, Condition, Given, Kind
from genbench.data.dataset import Part
from genbench.images import to_float
from genbench.model import DataSpec
from genbench.records.record import Record
from genbench.support.errors import BadInput
from genbench.support.seeds import derive_seed
from genbench.support.store import release

PLAN_SEED = 2020


@dataclass(frozen=True)
class Conditions(ABC):
    """One kind of condition; `kind` is None for unconditional jobs.

    The condition of each sample is stored with it as an int64 number, whose meaning depends on the kind.
    """

    kind: Kind | None

    @property
    def words(self) -> str:
        """The name of this kind in messages."""
        return f"conditions of kind {self.kind!r}"

    @abstractmethod
    def given(self, part: Part, indices: np.ndarray, device: torch.device | str) -> Given:
        """What a model gets with these images of a split."""

    @abstractmethod
    def plan(self, train: Part, test: Part, count: int) -> np.ndarray | None:
        """The numbers (count,) that samples are drawn under, the same for every model."""

    @abstractmethod
    def planned(self, test: Part | None, numbers: np.ndarray, device: torch.device | str) -> Given:
        """What a model gets for samples with these numbers."""

    @abstractmethod
    def example(self, spec: DataSpec, count: int, device: torch.device | str) -> Given:
        """`count` arbitrary conditions: the cost of a job does not depend on them."""

    def pairs(self, part: Part, order: np.ndarray) -> np.ndarray:
        """Pairs (P, 2) of a split's images, taken in `order`; each pair shares a condition, if any images do."""
        return order[: len(order) // 2 * 2].reshape(-1, 2)

    def asked(self, text: str | None, count: int, record: Record) -> np.ndarray | None:
        """The numbers (count,) of further samples requested by `--labels`. Raises BadInput if that is not possible."""
        raise BadInput(
            f"{record.job.id}: a run with {self.words} cannot draw further samples: conditions come from its dataset",
            "samples.npy in the run folder has those already drawn",
        )


class Unconditional(Conditions):
    """No condition: models get None."""

    def given(self, part: Part, indices: np.ndarray, device: torch.device | str) -> Given:
        return None

    def plan(self, train: Part, test: Part, count: int) -> np.ndarray | None:
        return None

    def planned(self, test: Part | None, numbers: np.ndarray, device: torch.device | str) -> Given:
        return None

    def example(self, spec: DataSpec, count: int, device: torch.device | str) -> Given:
        return None

    def asked(self, text: str | None, count: int, record: Record) -> np.ndarray | None:
        if text is not None:
            raise BadInput("--labels: the run is unconditional", "run it with --conditional")
        return None


class OfImages(Conditions):
    """Conditions that come with images, as arrays by name; a sample's number is the index of a test image."""

    def given(self, part: Part, indices: np.ndarray, device: torch.device | str) -> Given:
        assert self.kind is not None
        arrays = part.conditions[self.kind]
        return Condition({name: torch.from_numpy(array[indices]) for name, array in arrays.items()}).to(device)

    def plan(self, train: Part, test: Part, count: int) -> np.ndarray:
        """Test conditions in a seeded order, each used once before any is repeated."""
        return np.resize(np.random.default_rng(derive_seed(PLAN_SEED, "conditions")).permutation(len(test)), count)

    def planned(self, test: Part | None, numbers: np.ndarray, device: torch.device | str) -> Given:
        assert test is not None
        return self.given(test, numbers, device)

    def example(self, spec: DataSpec, count: int, device: torch.device | str) -> Given:
        assert self.kind is not None and spec.condition is not None
        dtype = torch.int64 if spec.condition.size else torch.float32
        return Condition({self.kind: torch.zeros(count, *spec.condition.shape, dtype=dtype, device=device)})


class Open(OfImages):
    """What leaves several images possible: several samples in a row are of one test image's condition."""

    def asked(self, text: str | None, count: int, record: Record) -> np.ndarray | None:
        given = "WORDS" if self.kind == "text" else "FILE"
        raise BadInput(f"{record.job.id}: it conditions on {self.kind}s", f"give one by --{self.kind} {given}")

    def plan(self, train: Part, test: Part, count: int) -> np.ndarray:
        places = super().plan(train, test, -(-count // EACH))
        return np.repeat(places, EACH)[:count]


class Texts(Open):
    """The tensor `text`: numbers of the words of captions (B, L), or what a frozen encoder made of these (B, L, D).

    With it `captions`, uint8 (B, W): their UTF-8, and zeros behind.
    """

    def given(self, part: Part, indices: np.ndarray, device: torch.device | str) -> Given:
        arrays = part.conditions.get("text", {})
        tensors = {"text": torch.from_numpy((arrays["text"] if part.encoded is None else part.encoded)[indices])}
        if "captions" in arrays:
            written = np.ascontiguousarray(arrays["captions"][indices])
            tensors["captions"] = torch.from_numpy(written.view(np.uint8).reshape(len(written), -1))
        return Condition(tensors).to(device)

    def example(self, spec: DataSpec, count: int, device: torch.device | str) -> Given:
        empty = torch.zeros(count, 1, dtype=torch.uint8, device=device)
        return Condition({**super().example(spec, count, device).tensors, "captions": empty})


class Maps(Open):
    """The tensor `map`: the class of each pixel, int64 (B, h, w)."""

    def given(self, part: Part, indices: np.ndarray, device: torch.device | str) -> Given:
        levels = torch.from_numpy(part.conditions["map"]["map"][indices].astype(np.int64))
        return Condition({"map": levels.to(device)}, part.sizes["map"])

    def example(self, spec: DataSpec, count: int, device: torch.device | str) -> Given:
        assert spec.condition is not None
        unknown = torch.full((count, *spec.condition.shape), spec.condition.size, device=device)
        return Condition({"map": unknown}, spec.condition.size)


class Holes(Open):
    """The tensors `hole`, bool (B, 1, H, W), True where to fill, and `image`, (B, C, H, W), which is 0 there."""

    def given(self, part: Part, indices: np.ndarray, device: torch.device | str) -> Given:
        hole = torch.from_numpy(part.conditions["hole"]["hole"][indices]).to(device)
        image = to_float(torch.from_numpy(part.images[indices]).to(device))
        release(part.images)
        return Condition({"hole": hole, "image": image.masked_fill(hole, 0)})

    def example(self, spec: DataSpec, count: int, device: torch.device | str) -> Given:
        hole = torch.ones(count, 1, *spec.shape[1:], dtype=torch.bool, device=device)
        return Condition({"hole": hole, "image": torch.zeros(count, *spec.shape, device=device)})


class SmallImages(Open):
    """The tensor `image`, (B, C, h, w): bin centres, as images are."""

    def given(self, part: Part, indices: np.ndarray, device: torch.device | str) -> Given:
        return Condition({"image": to_float(torch.from_numpy(part.conditions["image"]["image"][indices]).to(device))})
