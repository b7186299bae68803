"""How often a model's own classifier is right about images, and the extractor's about samples drawn under labels.

The first is measured by `genbench.evaluate.classification` on the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genbench.metrics.features import NO_CLASSES, checked
from genbench.metrics.metric import Measured, Metric
from genbench.metrics.value import Value, not_enough, share

if TYPE_CHECKING:
    import numpy as np

    from genbench.metrics.case import Case

ACCURACY, CLASS_ACCURACY = "accuracy", "class_accuracy"


def accuracy(logits: np.ndarray, labels: np.ndarray) -> Value:
    """The share of images for which the highest of the logits (N, classes) is that of the label, (N,).

    The error is over images, the interval exact. Of equal logits the first counts.
    """
    if not len(labels):
        return not_enough("no images")
    return share(int((logits.argmax(1) == labels).sum()), len(labels))


def measure_class_accuracy(case: Case) -> dict[str, Measured]:
    """The share of samples that the extractor takes for the class they were drawn under; none of unlabelled ones."""
    logits, labels = case.generated.logits, case.generated.labels
    if labels is None:
        return {}
    if case.no_classes or logits is None:
        value = Value(None, case.no_classes or NO_CLASSES, status="not_applicable")
    else:
        value = accuracy(checked(logits, "generated").numpy(), labels)
    return {CLASS_ACCURACY: Measured(value, len(case.generated), {})}


METRICS = (
    Metric(ACCURACY, "accuracy", "higher", "share", "test", "classification", needs="classifier", places={"full": 94}),
    Metric(
        CLASS_ACCURACY, "class accuracy", "higher", labelled=True, ranked=False, measure=measure_class_accuracy,
        places={"full": 52, "record": 52},
    ),
)  # fmt: skip
