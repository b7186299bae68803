"""The first lines of a plan: what will run, how long that takes as far as it is known, and what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from genbench.evaluate import local_classifier
from genbench.evaluate.extractors import LOCAL
from genbench.executors.local import pools_here
from genbench.support.text import duration, list_words

if TYPE_CHECKING:
    from genbench.data.dataset import Dataset
    from genbench.planning.prospect import Prospect
    from genbench.planning.session import Session
    from genbench.records.job import Job

STATES = {"done": "done", "to do": "to do", "cannot": "cannot run"}


def summary_of(found: list[Prospect], session: Session) -> Iterator[str]:
    """What runs, what is trained first, the training that is left, and what comes after it, a paragraph each."""
    yield jobs_text(found)
    waiting = [prospect for prospect in found if prospect.state == "to do"]
    for data in session.datasets.values():
        if text := classifier_text(data, [prospect.job for prospect in waiting]):
            yield f"{text[0].upper()}{text[1:]}."
    yield from training_text(waiting, session)
    several, told = len(session.datasets) > 1, set()
    for prospect in waiting:
        job, outlay = prospect.job, prospect.outlay
        if outlay is not None and (job.dataset, job.row) not in told:
            told.add((job.dataset, job.row))
            where = f"{job.row} on {job.dataset}" if several else job.row
            yield f"{where}: {outlay.warning() or f'after its training {outlay.words()}'}."


def jobs_text(found: list[Prospect]) -> str:
    """`9 jobs on mnist5k: ddpm and gan, 2 seeds each, and the rows real, noise and copies; all to do.`"""
    jobs = [prospect.job for prospect in found]
    rows = list(dict.fromkeys(job.row for job in jobs if not job.is_reference))
    seeds = len({job.seed for job in jobs if not job.is_reference})
    references = list_words(dict.fromkeys(job.label for job in jobs if job.is_reference))
    where = list_words(dict.fromkeys(f"{job.dataset} (tuning split)" if job.tune else job.dataset for job in jobs))
    each = "" if seeds == 1 else f", {seeds} seeds each"
    counts = Counter(prospect.state for prospect in found)
    states = [f"{'all' if count == len(found) else count} {STATES[state]}" for state, count in counts.items()]
    return f"{len(jobs)} jobs on {where}: {list_words(rows)}{each}, and the rows {references}; {', '.join(states)}."


def classifier_text(data: Dataset, waiting: list[Job]) -> str:
    """What is said of a local classifier that one of the waiting jobs has to train; "" if none has to."""
    users = [job for job in waiting if job.dataset == data.name and LOCAL in job.evaluation.extractors]
    if not users:
        return ""
    runtime = users[0].runtime
    return local_classifier.announcement(data, runtime.cache, runtime.device if runtime.executor == "local" else None)


def training_text(waiting: list[Prospect], session: Session) -> Iterator[str]:
    """`Training: 5 x 60 s = 5 min.`: a budget in seconds is known before anything has run."""
    trained = [prospect for prospect in waiting if prospect.estimate is not None and prospect.estimate.trains]
    if not trained:
        return
    job, count = trained[0].job, len(trained)
    if not job.budget.is_timed:
        known = [p.outlay.train for p in trained if p.outlay is not None and p.outlay.train is not None]
        time = f"~{duration(sum(known))}, as in earlier runs" if len(known) == count else "time not known"
        yield f"Training: {count} x {job.budget.words()}, {time}."
        return
    slots = sum(p.slots for p in pools_here(session.groups, session.at_once)) if job.runtime.executor == "local" else 1
    time = f"{count} x {duration(job.budget.amount)} = {duration(count * job.budget.amount)}"
    together = duration(-(-count // slots) * job.budget.amount)
    yield f"Training: {time}" + (f", {slots} at a time: {together}." if slots > 1 else ".")
