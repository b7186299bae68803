"""The table of condition kinds, and the conditions that a row's samples are drawn under."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from genbench.condition import Given, Kind
from genbench.data.class_labels import ClassLabels
from genbench.data.conditions import Conditions, Holes, Maps, OfImages, SmallImages, Texts, Unconditional
from genbench.data.dataset import Dataset, Part

OWN_WAYS: dict[Kind | None, Conditions] = {
    None: Unconditional(None),
    "class": ClassLabels("class"),
    "text": Texts("text"),
    "map": Maps("map"),
    "hole": Holes("hole"),
    "image": SmallImages("image"),
}
"""Kinds that the harness treats specially; conditions of any other kind come with the images."""


def conditions_of(kind: Kind | None) -> Conditions:
    """How the harness handles conditions of this kind."""
    return OWN_WAYS.get(kind) or OfImages(kind)


@dataclass(frozen=True)
class ConditionPlan:
    """The conditions of samples, from number `first` on: a number each, which the kind interprets.

    It uses the test images if needed.
    """

    conditions: Conditions
    numbers: np.ndarray | None
    test: Part | None = None
    first: int = 0

    @classmethod
    def of(cls, data: Dataset, kind: Kind | None, count: int) -> ConditionPlan:
        """The plan for `count` samples, the same for every model on a dataset."""
        conditions = conditions_of(kind)
        return cls(conditions, conditions.plan(data.train, data.test, count), data.test)

    def resized(self, count: int) -> ConditionPlan:
        """The first `count` conditions, repeated from the start if there are fewer."""
        numbers = None if self.numbers is None else np.resize(self.numbers, count)
        return ConditionPlan(self.conditions, numbers, self.test, self.first)

    def given(self, start: int, count: int, device: torch.device | str) -> Given:
        """What a model gets for `count` samples from `start` on."""
        if self.numbers is None:
            return None
        begin = start - self.first
        return self.conditions.planned(self.test, self.numbers[begin : begin + count], device)
