"""Rows of too few images for an FID: whoever asks for them is told before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from genbench.evaluate.extractors import Registered, kind_of
from genbench.records.job import Job

if TYPE_CHECKING:
    from genbench.data.dataset import Dataset


def too_few_images(jobs: Iterable[Job], datasets: Mapping[str, Dataset], registered: Registered) -> list[str]:
    """A sentence for each dataset and extractor in whose features no FID is possible: a covariance would lack rank."""
    told = []
    for job in jobs:
        data = datasets[job.dataset]
        if not job.is_floor or not data.digest or job.evaluation.allow_rank_deficient:
            continue
        for name in job.evaluation.extractors:
            dims = kind_of(name, registered).dims(name, data)
            if dims is not None and min(job.samples, len(data.test)) <= dims:
                few = (
                    f"{job.samples:,} samples"
                    if job.samples <= len(data.test)
                    else f"its {len(data.test):,} test images"
                )
                way = f": --samples {dims + 1}, or more" if job.samples <= dims < len(data.test) else ""
                told.append(f"{data.name}: no FID in the features of {name}: {few} in {dims:,} dimensions{way}")
    return told
