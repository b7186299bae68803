"""What the harness does with conditions: hands them to models, plans those of samples, pairs images by them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch

from genbench.condition import Condition, Given, Kind
from genbench.data.dataset import Part
from genbench.model import DataSpec
from genbench.records.record import Record
from genbench.support.errors import BadInput
from genbench.support.seeds import derive_seed

PLAN_SEED = 2020


@dataclass(frozen=True)
class Conditions(ABC):
    """One kind of condition, None for that of unconditional jobs.

    What samples are drawn under is a number for each, int64, which is stored with them; the kind says what it means.
    """

    kind: Kind | None

    @property
    def words(self) -> str:
        """What images have of this kind, in a message."""
        return f"conditions of kind {self.kind!r}"

    @abstractmethod
    def given(self, part: Part, indices: np.ndarray, device: torch.device | str) -> Given:
        """What a model is handed with these images of a split."""

    @abstractmethod
    def plan(self, train: Part, test: Part, count: int) -> np.ndarray | None:
        """The numbers (count,) that samples are drawn under, the same for every model."""

    @abstractmethod
    def planned(self, test: Part | None, numbers: np.ndarray, device: torch.device | str) -> Given:
        """What a model is handed for samples of these numbers."""

    @abstractmethod
    def example(self, spec: DataSpec, count: int, device: torch.device | str) -> Given:
        """`count` conditions that are as good as any: what a job costs does not depend on them."""

    def pairs(self, part: Part, order: np.ndarray) -> np.ndarray:
        """Pairs (P, 2) of a split's images, as they come in `order`; of images that share a condition, if any do."""
        return order[: len(order) // 2 * 2].reshape(-1, 2)

    def asked(self, text: str | None, count: int, record: Record) -> np.ndarray | None:
        """The numbers (count,) that the text of `--labels` asks of further samples. Raises BadInput if it cannot."""
        raise BadInput(
            f"{record.job.id}: no further samples of a run with {self.words}: their conditions are its dataset's",
            "samples.npy of the run folder has those that were drawn",
        )


class Unconditional(Conditions):
    """No condition: models are handed None."""

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
    """Conditions that come with images, as arrays by name; a sample's number is the place of a test image."""

    def given(self, part: Part, indices: np.ndarray, device: torch.device | str) -> Given:
        assert self.kind is not None
        arrays = part.conditions[self.kind]
        return Condition({name: torch.from_numpy(array[indices]) for name, array in arrays.items()}).to(device)

    def plan(self, train: Part, test: Part, count: int) -> np.ndarray:
        """Test conditions in a seeded order, each once before any comes again."""
        return np.resize(np.random.default_rng(derive_seed(PLAN_SEED, "conditions")).permutation(len(test)), count)

    def planned(self, test: Part | None, numbers: np.ndarray, device: torch.device | str) -> Given:
        assert test is not None
        return self.given(test, numbers, device)

    def example(self, spec: DataSpec, count: int, device: torch.device | str) -> Given:
        assert self.kind is not None and spec.condition is not None
        dtype = torch.int64 if spec.condition.size else torch.float32
        return Condition({self.kind: torch.zeros(count, *spec.condition.shape, dtype=dtype, device=device)})
