"""The kinds of condition in one table, and the conditions that a row's samples are drawn under."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from genbench.condition import Given, Kind
from genbench.data.class_labels import ClassLabels
from genbench.data.conditions import Conditions, OfImages, Unconditional
from genbench.data.dataset import Dataset, Part

OWN_WAYS: dict[Kind | None, Conditions] = {None: Unconditional(None), "class": ClassLabels("class")}
"""Kinds that the harness treats in a way of their own; any other comes with the images."""


def conditions_of(kind: Kind | None) -> Conditions:
    """What the harness does with conditions of this kind."""
    return OWN_WAYS.get(kind) or OfImages(kind)


@dataclass(frozen=True)
class ConditionPlan:
    """The conditions of samples: a number for each, which the kind reads, if it must, with the test images at hand."""

    conditions: Conditions
    numbers: np.ndarray | None
    test: Part | None = None

    @classmethod
    def of(cls, data: Dataset, kind: Kind | None, count: int) -> ConditionPlan:
        """That of `count` samples, the same for every model of a dataset."""
        conditions = conditions_of(kind)
        return cls(conditions, conditions.plan(data.train, data.test, count), data.test)

    def resized(self, count: int) -> ConditionPlan:
        """The first `count` of these, and again from the start where there are fewer."""
        numbers = None if self.numbers is None else np.resize(self.numbers, count)
        return ConditionPlan(self.conditions, numbers, self.test)

    def given(self, start: int, count: int, device: torch.device | str) -> Given:
        """What a model is handed for the samples from `start` on."""
        if self.numbers is None:
            return None
        return self.conditions.planned(self.test, self.numbers[start : start + count], device)
