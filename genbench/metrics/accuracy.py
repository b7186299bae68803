"""How often a model's own classifier is right; measured by `genbench.evaluate.classification` on the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genbench.metrics.metric import Metric
from genbench.metrics.value import Value, not_enough, share

if TYPE_CHECKING:
    import numpy as np

ACCURACY = "accuracy"


def accuracy(logits: np.ndarray, labels: np.ndarray) -> Value:
    """The share of images for which the highest of the logits (N, classes) is that of the label, (N,).

    The error is over images, the interval exact. Of equal logits the first counts.
    """
    if not len(labels):
        return not_enough("no images")
    return share(int((logits.argmax(1) == labels).sum()), len(labels))


METRICS = (
    Metric(ACCURACY, "accuracy", "higher", "share", "test", "classification", needs="classifier", places={"full": 94}),
)
