"""All fidelity metrics of a set of generated images, each with its protocol.

Features are float64 (N, d) and logits float64 (N, classes), extracted once per set of images. Features with NaN or
infinity raise CorruptData; what cannot be computed is a measurement without a value, with a status and a note that say
why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from genbench.metrics import metrics
from genbench.metrics.case import Case
from genbench.metrics.classes import inception_score
from genbench.metrics.features import Features, chosen
from genbench.metrics.frechet import fid
from genbench.metrics.kernel import kid, kid_subset_size
from genbench.metrics.metric import Measured
from genbench.metrics.neighbours import precision_recall
from genbench.records.protocol import EvaluationSettings, versions
from genbench.records.record import Measurement

__all__ = ["chosen", "fid", "fidelity_measurements", "inception_score", "kid", "kid_subset_size", "precision_recall"]
Settings = dict[str, Any]


def fidelity_measurements(
    generated: Features,
    train: Features | None,
    test: Features | None,
    settings: EvaluationSettings,
    protocol_of: Callable[[Settings], Settings],
    held_out: Features | None = None,
    no_classes: str = "",
) -> list[Measurement]:
    """All fidelity metrics of one set of generated images, except those whose reference is None.

    `protocol_of` adds the caller's settings (extractor, dataset digest) to a metric's. The test reference should hold
    all test images; `max_train_reference` of the training images are used, chosen by the seed. `held_out` images, by
    default the test images, show how close real images come to the training images. `no_classes` says why the
    extractor's classes are not the dataset's, if they are not.
    """
    if train is not None:
        train = train.take(chosen(len(train), settings.max_train_reference, settings.seed, "train reference"))
    found = measure(Case(generated, settings, train, test, held_out or test, no_classes))
    return [
        Measurement(
            metric=name,
            better=metrics()[name].better,
            count=measured.count,
            settings=protocol_of(
                {
                    "family": "fidelity", "metric": name, "samples": measured.count, **measured.settings,
                    "versions": versions(),
                }
            ),
            **asdict(measured.value),
        )
        for name, measured in found.items()
    ]  # fmt: skip


def measure(case: Case) -> dict[str, Measured]:
    """The values of every metric whose real images are available, in the order of a record."""
    wanted = [metric for metric in metrics().values() if metric.measure and case.has(metric.split)]
    found: dict[str, Measured] = {}
    for function in dict.fromkeys(metric.measure for metric in wanted if metric.measure):
        found |= function(case)
    return {metric.name: found[metric.name] for metric in wanted if metric.name in found}
