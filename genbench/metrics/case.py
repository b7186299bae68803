"""What a metric receives: generated images, what they are compared with, and the settings of the evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from genbench.metrics.features import Features
    from genbench.records.protocol import EvaluationSettings

Split = Literal["", "train", "test"]
"""The split of the real images that generated ones are compared with; "" for none."""


@dataclass(frozen=True)
class Case:
    """One set of generated images and the real ones to compare with, as the features of one extractor.

    Metrics whose reference is None are left out. `held_out` images are neither generated nor from the training split.
    `no_classes` says why the extractor's classes are not the dataset's; "" if they are.
    """

    generated: Features
    settings: EvaluationSettings
    train: Features | None = None
    test: Features | None = None
    held_out: Features | None = None
    no_classes: str = ""

    def has(self, split: Split) -> bool:
        """Whether there are images of this split; always true for ""."""
        return not split or {"train": self.train, "test": self.test}[split] is not None

    def reference(self, split: Split) -> Features:
        """The images of a split. Raises ValueError if there are none."""
        found = {"train": self.train, "test": self.test}.get(split)
        if found is None:
            raise ValueError(f"no images of the split {split!r} to compare with")
        return found
