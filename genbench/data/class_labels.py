"""The class label as a condition."""

from __future__ import annotations

import numpy as np
import torch

from genbench.data.conditions import PLAN_SEED, Conditions
from genbench.data.dataset import Part
from genbench.model import DataSpec
from genbench.records.class_names import known, label_of
from genbench.records.record import Record
from genbench.support.errors import BadInput


class ClassLabels(Conditions):
    """Models get int64 labels (B,); a sample's number is its class."""

    @property
    def words(self) -> str:
        return "labels"

    def given(self, part: Part, indices: np.ndarray, device: torch.device | str) -> torch.Tensor:
        assert part.labels is not None
        return torch.from_numpy(part.labels[indices]).to(device)

    def plan(self, train: Part, test: Part, count: int) -> np.ndarray:
        """Classes in the exact proportions of the training labels (largest remainders), shuffled."""
        assert train.labels is not None
        shares = np.bincount(train.labels) / len(train) * count
        counts = np.floor(shares).astype(int)
        short = count - counts.sum()
        counts[np.argsort(counts - shares, kind="stable")[:short]] += 1
        return np.random.default_rng(PLAN_SEED).permutation(np.repeat(np.arange(len(counts)), counts))

    def planned(self, test: Part | None, numbers: np.ndarray, device: torch.device | str) -> torch.Tensor:
        return torch.from_numpy(numbers).to(device)

    def example(self, spec: DataSpec, count: int, device: torch.device | str) -> torch.Tensor:
        """The classes in turn."""
        return torch.arange(count, device=device) % spec.num_classes

    def pairs(self, part: Part, order: np.ndarray) -> np.ndarray:
        """The first two images of each class that has at least two."""
        assert part.labels is not None
        by_class = (order[part.labels[order] == label] for label in np.unique(part.labels))
        return np.array([members[:2] for members in by_class if len(members) > 1])

    def asked(self, text: str | None, count: int, record: Record) -> np.ndarray:
        """The classes that a text lists by name or number (`cat,3`), in rotation; without a text, all of them."""
        dataset = record.dataset
        classes: list[int | None] = list(range(dataset.num_classes))
        if text is not None:
            whole = label_of(text, dataset.classes, dataset.num_classes)
            words = [text] if whole is not None else [word.strip() for word in text.split(",")]
            classes = [label_of(word, dataset.classes, dataset.num_classes) for word in words]
            if None in classes:
                raise BadInput(
                    f"--labels {text}: {words[classes.index(None)]!r} is no class of {dataset.name}",
                    f"names or numbers, separated by commas: {known(dataset.classes, dataset.num_classes)}",
                )
        return np.resize(np.array(classes, np.int64), count)
