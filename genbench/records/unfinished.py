"""Runs that have not ended: whether somebody is at work, and the record-like row that tables and pages show of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from genbench.records.job import STAMP, Job
from genbench.records.record import DatasetStamp, Environment, Record
from genbench.support.errors import CorruptData, EnvironmentProblem
from genbench.support.lock import in_use
from genbench.support.sealed import read_sealed

State = Literal["ended", "running", "interrupted"]


def state_of(folder: Path) -> State:
    """Whether a run has a record or else a live process; where nobody can know of locks, it counts as interrupted.

    The lock is looked at before the record is looked for, and again if there is none: a run that ends or begins
    meanwhile is neither taken for an interrupted one.
    """
    for _ in range(2):
        try:
            working = in_use(folder)
        except EnvironmentProblem:
            working = False
        if (folder / "record.json").exists():
            return "ended"
        if working:
            return "running"
    return "interrupted"


def unfinished_record(folder: Path, state: State, known: Iterable[Record]) -> Record | None:
    """What is known of a run that has not ended, without a measurement; None if it cannot be told.

    What its job does not say, the name of the device, is that of a run of the same label that has ended.
    """
    try:
        plain = read_sealed(folder / "job.json", "", required=False)
        job = Job.model_validate(plain)
        stamp = DatasetStamp.model_validate(plain[STAMP]) if STAMP in plain else None
    except (CorruptData, ValidationError):
        return None
    alike = [record for record in known if record.dataset.digest == job.dataset_digest]
    stamp = stamp or next((record.dataset for record in alike), None)
    same = [record for record in alike if (record.job.label, record.job.model) == (job.label, job.model)]
    here = [record for record in same if record.job.config == job.config and record.job.budget == job.budget]
    device = next((record.environment.device for record in here), job.runtime.device)
    about = Environment(
        genbench="", plugin=job.plugin, torch="", python="", device=device, threads=job.runtime.threads,
        processes=job.runtime.processes, executor=job.runtime.executor, precision=job.precision,
    )  # fmt: skip
    if stamp is None or state == "ended":
        return None
    return Record(status=state, job=job.stamp(), dataset=stamp, environment=about, folder=folder)
