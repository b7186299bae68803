"""The promise of a model that classifies."""

from __future__ import annotations

import torch
from torch import Tensor

from genbench.capabilities import Classifier
from genbench.conformance.case import Case
from genbench.conformance.conditions import CLASSES
from genbench.conformance.promise import NotApplicable, promise, require
from genbench.conformance.training import trains


@promise("classify gives a finite logit of each class for every image", "classify", trains)
def classifies(case: Case) -> str:
    if not isinstance(case.trained, Classifier):
        raise NotApplicable("no classify()")
    if case.kind != "class":
        raise NotApplicable("no classes")
    found, wanted = case.classify(case.trained), (len(case.batch), CLASSES)
    require(isinstance(found, Tensor), f"classify() returns a {type(found).__name__}, not a tensor")
    require(tuple(found.shape) == wanted, f"classify() has shape {tuple(found.shape)}, not {wanted}")
    require(found.is_floating_point(), f"classify() is {found.dtype}: return logits, not classes")
    require(found.isfinite().all(), "classify() returns values that are not finite")
    right = float((found.argmax(1) == torch.as_tensor(case.batch.labels)).float().mean())
    return f"{right:.0%} of the training images right"
