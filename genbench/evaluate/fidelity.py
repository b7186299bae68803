"""All fidelity metrics of a set of generated images, each with its protocol.

Features are float64 (N, d) and logits float64 (N, classes), extracted once per set of images. `generated` comes first,
the reference second. Features with NaN or infinity are refused by CorruptData; what cannot be computed is a `Value`
without a number, with the status and the sentence that say why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from genbench.evaluate.classes import class_metrics, inception_score
from genbench.evaluate.extractor import Features
from genbench.evaluate.frechet import SIZES, fid, fid_infinity
from genbench.evaluate.kernel import kid, kid_subset_size
from genbench.evaluate.memorisation import PERCENT, memorised_share
from genbench.evaluate.neighbours import neighbour_metrics, precision_recall
from genbench.evaluate.value import Value
from genbench.records.protocol import EvaluationSettings, versions
from genbench.records.record import Measurement
from genbench.support.seeds import derive_seed

__all__ = ["fid", "fidelity_measurements", "inception_score", "kid", "kid_subset_size", "precision_recall"]
Settings = dict[str, Any]
BETTER: dict[str, Literal["lower", "higher"]] = {
    "inception_score": "higher", "fid_test": "lower", "fid_train": "lower", "fid_test_infinity": "lower",
    "kid_test": "lower", "kid_train": "lower", "precision": "higher", "recall": "higher", "density": "higher",
    "coverage": "higher", "class_coverage": "higher", "class_tv": "lower", "memorised_share": "lower",
}  # fmt: skip


def fidelity_measurements(
    generated: Features,
    train: Features | None,
    test: Features | None,
    settings: EvaluationSettings,
    protocol_of: Callable[[Settings], Settings],
    held_out: Features | None = None,
    no_classes: str = "",
) -> list[Measurement]:
    """All fidelity metrics of one set of generated images; those of a reference that is None are left out.

    `protocol_of` adds what is the caller's (extractor, dataset digest) to a metric's own settings. The test reference
    should hold all test images; of the training images `max_train_reference` are used, chosen by the seed. `held_out`
    images say how near real ones come to the training images; the test images without. `no_classes` says why the
    extractor's classes are not the dataset's, where they are not.
    """
    scores = Scores(generated, settings, protocol_of)
    scores.inception()
    if test is not None:
        scores.against("test", test)
        scores.infinity(test)
    if train is not None:
        train = train.take(chosen(len(train), settings.max_train_reference, settings.seed, "train reference"))
        scores.against("train", train)
    if test is not None:
        scores.neighbours(test)
        scores.classes(test, no_classes)
    held_out = held_out or test
    if train is not None and held_out is not None:
        scores.memorised(train, held_out)
    return scores.found


class Scores:
    """The measurements of one set of generated images, gathered one after another in `found`."""

    def __init__(
        self, generated: Features, settings: EvaluationSettings, protocol_of: Callable[[Settings], Settings]
    ) -> None:
        self.generated, self.settings, self.protocol_of = generated, settings, protocol_of
        self.found: list[Measurement] = []

    def add(self, metric: str, value: Value, count: int, **own: Any) -> None:
        behind = {"family": "fidelity", "metric": metric, "samples": count, **own, "versions": versions()}
        self.found.append(
            Measurement(
                metric=metric, better=BETTER[metric], count=count, settings=self.protocol_of(behind), **asdict(value)
            )
        )

    def inception(self) -> None:
        splits, seed = self.settings.isc_splits, self.settings.seed
        value = Value(None, "the extractor has no classes", status="not_applicable")
        if self.generated.logits is not None:
            value = inception_score(self.generated.logits, splits, seed)
        self.add("inception_score", value, len(self.generated), splits=splits, seed=seed)

    def against(self, split: str, reference: Features) -> None:
        """FID and KID against a split."""
        ours, theirs, given = self.generated.features, reference.features, self.settings
        sides: Settings = {"split": split, "reference_images": len(reference), "seed": given.seed}
        errors = {"allow_rank_deficient": given.allow_rank_deficient, "error_splits": given.error_splits}
        value = fid(ours, theirs, given.allow_rank_deficient, given.error_splits, given.seed)
        self.add(f"fid_{split}", value, len(ours), **sides, **errors)
        subsets = {"subsets": given.kid_subsets, "subset_size": kid_subset_size(len(ours), len(theirs))}
        value = kid(ours, theirs, given.kid_subsets, given.seed, error=True)
        self.add(f"kid_{split}", value, len(ours), **sides, **subsets, kernel="(x.y/d + 1)^3")

    def infinity(self, test: Features) -> None:
        """FID against the test split for infinitely many generated images; takes its error from the FID measured."""
        stderr = next(m.stderr for m in self.found if m.metric == "fid_test")
        value = fid_infinity(self.generated.features, test.features, stderr, self.settings.seed)
        own = {"split": "test", "reference_images": len(test), "seed": self.settings.seed, "sizes": SIZES}
        errors = self.settings.error_splits
        self.add("fid_test_infinity", value, len(self.generated), **own, error_splits=errors)

    def neighbours(self, test: Features) -> None:
        """Precision, recall, density and coverage, with equally many images on both sides."""
        given, count = self.settings, min(len(self.generated), len(test))
        ours = self.generated.take(chosen(len(self.generated), count, given.seed, "neighbours, generated"))
        theirs = test.take(chosen(len(test), count, given.seed, "neighbours, test"))
        own = {"split": "test", "reference_images": count, "k": given.k, "seed": given.seed, "compare": "<="}
        errors = given.error_splits
        for metric, value in neighbour_metrics(ours.features, theirs.features, given.k, errors, given.seed).items():
            self.add(metric, value, count, **own, error_splits=errors)

    def classes(self, test: Features, no_classes: str) -> None:
        """Class coverage and distance, where the extractor's classes are the dataset's."""
        own = {"split": "test", "reference_images": len(test), "seed": self.settings.seed}
        values = class_metrics(self.generated.logits, test.logits, no_classes, self.settings.seed)
        for metric, value in values.items():
            self.add(metric, value, len(self.generated), **own)

    def memorised(self, train: Features, held_out: Features) -> None:
        value = memorised_share(self.generated.features, train.features, held_out.features)
        own = {"split": "train", "reference_images": len(train), "held_out_images": len(held_out), "percent": PERCENT}
        self.add("memorised_share", value, len(self.generated), **own, seed=self.settings.seed)


def chosen(count: int, most: int, seed: int, purpose: str) -> np.ndarray:
    """Sorted indices of `most` of `count` images, drawn without replacement; all of them where there are no more."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(derive_seed(seed, purpose)).choice(count, most, replace=False))
