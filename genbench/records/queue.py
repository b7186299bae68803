"""What a command is to run in an output folder, for whoever looks into it: a file beside the runs, while it works."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genbench.records.job import Job
from genbench.support.errors import CorruptData, EnvironmentProblem, GenbenchError, removal
from genbench.support.lock import Holder, holder, locked
from genbench.support.paths import listed
from genbench.support.sealed import read_sealed, write_sealed

QUEUE, FILE = ".queue_", "queue.json"
"""How the name of a queue's folder begins, whose lock the command holds, and the file in it."""


@dataclass(frozen=True)
class Queue:
    """The jobs of a command in their order, as plain data, and when it began, by the time of its file.

    `holder` is None once the command is gone.
    """

    jobs: list[dict[str, Any]]
    began: float
    holder: Holder | None


@contextmanager
def queued(out: Path, jobs: list[Job]) -> Iterator[None]:
    """Let others know within the block that these jobs are to be run; where that cannot be written, nobody does.

    If an exception ends the block, or a signal the process, the file stays and says what was not begun, until a command
    runs these jobs.
    """
    with ExitStack() as stack:
        folder = out / f"{QUEUE}{os.getpid()}_{secrets.token_hex(3)}"
        with suppress(GenbenchError, OSError):
            stack.enter_context(locked(folder))
            write_sealed(folder / FILE, {"jobs": [told_of(job) for job in jobs]})
            _clear(out, {job.id for job in jobs})
        yield
        shutil.rmtree(folder, ignore_errors=True)


def told_of(job: Job) -> dict[str, Any]:
    """What a queue says of a job."""
    about = {name: getattr(job, name) for name in ("id", "model", "label", "dataset", "seed")}
    return {**about, "budget": {} if job.is_reference else job.budget.as_dict()}


def queues(out: Path) -> list[Queue]:
    """The queues in an output folder, those of commands that run first. Raises CorruptData or EnvironmentProblem."""
    found = [queue for folder in _folders(out) if (queue := _read(folder)) is not None]
    return sorted(found, key=lambda queue: queue.holder is None)


def _folders(out: Path) -> list[Path]:
    return [folder for folder in listed(out) if folder.name.startswith(QUEUE)]


def _read(folder: Path) -> Queue | None:
    """The queue in a folder, None if it is not there yet or no more."""
    working = holder(folder)
    try:
        jobs = read_sealed(folder / FILE, removal(folder, then="then look again"))["jobs"]
        return Queue(list(jobs), (folder / FILE).stat().st_mtime, working)
    except (CorruptData, FileNotFoundError):
        if not (folder / FILE).exists():
            return None
        raise


def _clear(out: Path, ids: Iterable[str]) -> None:
    """Remove the queues of commands that are gone, as far as these jobs, or finished ones, are all that they had."""
    for folder in _folders(out):
        with suppress(CorruptData, EnvironmentProblem):
            queue = _read(folder)
            if queue is not None and queue.holder is None:
                left = {job["id"] for job in queue.jobs} - set(ids)
                if all((out / name / "record.json").exists() for name in left):
                    shutil.rmtree(folder, ignore_errors=True)
