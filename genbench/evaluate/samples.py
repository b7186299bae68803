"""Scoring samples, wherever they come from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from genbench.data.dataset import Dataset
from genbench.evaluate.extractor import Extractor
from genbench.evaluate.extractors import LOCAL
from genbench.evaluate.features import job_extractors, reference_features, told_of
from genbench.evaluate.fidelity import fidelity_measurements
from genbench.evaluate.ladder import ruler_of
from genbench.evaluate.parts import once
from genbench.extension.registry import Plugins
from genbench.metrics.features import Features
from genbench.records.job import Job
from genbench.records.record import Measurement
from genbench.records.ruler import Ruler
from genbench.records.samples import Samples
from genbench.support.digests import array_digest
from genbench.support.progress import report, stop_if_requested


def sample_measurements(job: Job, samples: Samples, data: Dataset, plugins: Plugins) -> list[Measurement]:
    """The fidelity of samples, with every extractor of the job."""
    found = []
    content = {"samples": array_digest(samples.images)}
    if samples.labels is not None:
        content["labels"] = array_digest(samples.labels)
    for extractor in job_extractors(job, data, plugins):
        stop_if_requested()
        report("evaluate", 0.0, extractor.name)

        def measure(extractor: Extractor = extractor) -> list[Measurement]:
            features = extractor.features(samples.images, progress=told_of(extractor, "samples"))
            references = {
                split: reference_features(extractor, data, split, job.runtime.cache, job.evaluation)
                for split in wanted(job)
            }
            return score(job, data, extractor, replace(features, labels=samples.labels), references)

        found += once(job, {**content, "extractor": extractor.describe()}, measure)
    return found


def rulers(job: Job, data: Dataset, plugins: Plugins) -> dict[str, Ruler]:
    """What is known of the job's extractors, by name; only the row `real` keeps the rungs."""
    found = {}
    for own in job_extractors(job, data, plugins):
        ruler = ruler_of(own, data, job.samples, job.evaluation, job.runtime.cache)
        found[own.name] = ruler if job.is_floor else ruler.model_copy(update={"rungs": []})
    return found


def wanted(job: Job) -> tuple[str, ...]:
    """The splits that a row may be compared with: only the test split for `real`, which is made of training images."""
    return ("test",) if job.is_floor else ("train", "test")


def score(
    job: Job, data: Dataset, extractor: Extractor, features: Features, references: dict[str, Features],
    held_out: Features | None = None,
) -> list[Measurement]:  # fmt: skip
    """The measurements of one set of features under the job's settings."""

    def protocol(settings: dict[str, Any]) -> dict[str, Any]:
        return {**settings, "dataset": data.digest, "extractor": extractor.describe()}

    return fidelity_measurements(
        features, references.get("train"), references.get("test"), job.evaluation, protocol, held_out,
        foreign_classes(extractor, data),
    )  # fmt: skip


def foreign_classes(extractor: Extractor, data: Dataset) -> str:
    """Why the extractor's classes are not the dataset's; "" if they are.

    They are the same for the local classifier, and for the classifier that the dataset names.
    """
    if not data.num_classes or not extractor.num_classes:
        return f"{data.name} has no classes" if not data.num_classes else f"{extractor.name} has no classes"
    if extractor.num_classes == data.num_classes and extractor.name in (LOCAL, *data.extractors):
        return ""
    return f"the classes of {extractor.name} are not those of {data.name}"
