"""The dataset of a job, in the process that runs it."""

from __future__ import annotations

from pathlib import Path

from genbench.data.dataset import Dataset
from genbench.data.encoders import encoded_before
from genbench.data.entries import known_datasets
from genbench.data.preparation import prepare
from genbench.data.tuning import prepare_tuning
from genbench.extension.registry import Plugins
from genbench.records.job import Job
from genbench.records.task import Context
from genbench.support.errors import CorruptData


def prepared(job: Job, context: Context, plugins: Plugins | None = None) -> Dataset:
    """The job's dataset, already prepared and encoded by the plan. Raises CorruptData if its images have changed since.

    No encoder is loaded: EnvironmentProblem if what it made of the captions is not in the cache of this machine.
    """
    entries = known_datasets([Path(file) for file in context.datasets], plugins)
    dataset = (prepare_tuning if job.tune else prepare)(entries[job.dataset], Path(context.data_root), offline=True)
    if dataset.digest != job.dataset_digest:
        was, now = job.dataset_digest[:12], dataset.digest[:12]
        raise CorruptData(f"dataset {job.dataset!r} has changed since the plan: digest {was}, now {now}", "run again")
    if job.condition is not None and job.condition.encoder:
        return encoded_before(dataset, job.condition, job.runtime.cache)
    return dataset
