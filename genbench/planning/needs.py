"""What jobs will need, for scheduling: bytes, and seconds that are good enough to order jobs by.

This calls plugin code, so it runs in a separate process: a plugin that crashes or hangs there cannot end a run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from genbench.records.job import Job
from genbench.records.shared_training import trained_by
from genbench.records.task import Context, Need
from genbench.support.errors import GenbenchError
from genbench.support.processes import Child, Say

if TYPE_CHECKING:
    from genbench.data.dataset import Dataset
    from genbench.extension.registry import Plugins
    from genbench.planning.estimate import Estimate

PATIENCE_SECONDS = 60.0
"""How long an estimate may take."""
FLOPS_PER_SECOND = {"cpu": 1e10, "cuda": 1e13}
"""Per CPU thread and per GPU, if no earlier run has a rate: good enough for ordering, and never shown."""


def need(job: Job, about: Estimate | None) -> Need:
    """The need from earlier runs if any, else from counts; `about` is None for a reference row, which is quick."""
    if about is None:
        import torch

        from genbench.planning.estimate import process_bytes

        return Need(process_bytes(torch.device(job.runtime.device)), 0.0)
    return Need(_bytes(job, about), _seconds(job, about))


def _bytes(job: Job, about: Estimate) -> int | None:
    processes, past = job.runtime.processes, about.earlier
    if past is not None and past.peak_bytes and processes == 1:
        return past.peak_bytes
    if about.estimated_peak_bytes is None:
        return None
    return about.estimated_peak_bytes * (processes if job.runtime.device == "cpu" else 1)


def _seconds(job: Job, about: Estimate) -> float | None:
    if about.earlier is not None and about.earlier.seconds is not None:
        return about.earlier.seconds
    threads = job.runtime.threads if job.runtime.device == "cpu" else job.runtime.processes
    rate = FLOPS_PER_SECOND[job.runtime.device.partition(":")[0]] * threads
    train = None if about.train_flops is None else about.train_flops / rate
    if job.budget.is_timed and about.trains:
        train = job.budget.amount
    return None if train is None else train + (about.sample_flops or 0.0) / rate


def alike(job: Job) -> str:
    """A key that jobs with the same needs share: everything but the seed."""
    plain = job.model_copy(update={"seed": 0, "tuning_trials": None}).model_dump(mode="json")
    return json.dumps(plain, sort_keys=True)


def find_needs(jobs: list[Job], context: Context) -> list[Need]:
    """What each job will need; unknown if its estimate crashes the process or takes too long."""
    different = {alike(job): job for job in jobs}
    found: dict[str, Need] = {}
    while waiting := {key: job for key, job in different.items() if key not in found}:
        plain = [job.model_dump(mode="json") for job in waiting.values()]
        with Child("needs", needs_main, plain, context) as child, suppress(GenbenchError):
            found.update((key, Need(*said)) for key, said in zip(waiting, child.said(PATIENCE_SECONDS)))
        unknown = [key for key in waiting if key not in found]
        found |= dict.fromkeys(unknown[:1], Need())
    return [found[alike(job)] for job in jobs]


def needs_main(say: Say, plain: Iterable[dict[str, Any]], context: Context) -> None:
    """Entry point of the process: report each job's need in turn."""
    for job, _, estimate, _ in estimated(plain, context):
        try:
            about = None if job.is_reference else estimate()
            about = about.without_training() if about and trained_by(job) else about
            say(tuple(need(job, about)))
        except Exception:
            say(tuple(Need()))


def estimated(
    plain: Iterable[dict[str, Any]], context: Context
) -> Iterator[tuple[Job, Callable[[], Dataset], Callable[[], Estimate], Plugins]]:
    """Each job with its dataset and its estimate, to be called, in a process that has nothing but plain data."""
    from genbench.planning.earlier import read_earlier
    from genbench.planning.estimate import estimate
    from genbench.running.defaults import load_plugins
    from genbench.running.loading import prepared

    jobs = [Job.model_validate(one) for one in plain]
    plugins = load_plugins(jobs[0].runtime.plugins)
    records = read_earlier(jobs[0].runtime.out, {job.model for job in jobs})
    for job in jobs:
        data = cache(partial(prepared, job, context, plugins))
        yield job, data, lambda job=job, data=data: estimate(job, data(), plugins, records, 1.0), plugins  # type: ignore[misc]
