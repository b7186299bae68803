"""Accuracy on test images, for every model that classifies."""

from __future__ import annotations

from torch import Tensor

from genbench.capabilities import Classifier
from genbench.data.dataset import Dataset
from genbench.evaluate.outputs import HINT, OnTestSplit
from genbench.metrics.accuracy import ACCURACY, accuracy
from genbench.metrics.value import Value
from genbench.model import Batch, Model
from genbench.records.job import Job
from genbench.records.record import Measurement
from genbench.support.errors import BadInput, Diverged


def classification_measurements(job: Job, model: Model, data: Dataset) -> list[Measurement]:
    """`accuracy` over all test images; none without `classify`, or if the job does not condition on the class."""
    if not isinstance(model, Classifier) or job.kind != "class" or data.test.labels is None:
        return []
    labels, test = data.test.labels, Classified(job, model, data)

    def values() -> dict[str, Value]:
        return {ACCURACY: accuracy(test.of_all(classified), labels)}

    return test.measure({"metric": ACCURACY, "seed": job.evaluation.seed}, values)


class Classified(OnTestSplit):
    """A trained model that classifies the test images."""

    family = "classification"


def classified(model: Model, batch: Batch) -> Tensor:
    """The logits of a batch, float (B, classes). Raises BadInput for another shape, Diverged for NaN or infinity."""
    assert isinstance(model, Classifier)
    found, shape = model.classify(batch.images), (len(batch), model.data.num_classes)
    if not isinstance(found, Tensor) or tuple(found.shape) != shape or not found.is_floating_point():
        raise BadInput(f"{model.name}: classify() of {shape[0]} images must return floats of shape {shape}", HINT)
    if not found.isfinite().all():
        raise Diverged("the logits of a test image are not finite")
    return found.float()
