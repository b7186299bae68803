"""Which job trains for which others: jobs that differ only in sampling share one training."""

from __future__ import annotations

from collections.abc import Iterable

from genbench.records.job import Job
from genbench.records.shared_training import trained_by


def trainers(jobs: Iterable[Job]) -> dict[str, Job]:
    """The jobs that wait for another's training, by id, each with the job that trains.

    If a shared training has no finished weights yet, the first job that has begun trains, or else the first.
    """
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        if job.is_trained:
            apart = "" if job.dataset_digest else job.dataset  # an absent dataset has no digest to tell it apart
            groups.setdefault((job.training_key, apart), []).append(job)
    waiting: dict[str, Job] = {}
    for rows in groups.values():
        if len(rows) > 1 and not trained_by(rows[0]):
            first = max(rows, key=lambda job: (job.folder / "checkpoint").exists())
            waiting |= {job.id: first for job in rows if job is not first}
    return waiting
