"""Running a session: its executor runs the jobs that are not done, then all records are read."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from genbench.executors.schedule import longest_first
from genbench.planning.announce import announcements
from genbench.planning.needs import find_needs
from genbench.planning.session import Session
from genbench.planning.sharing import trainers
from genbench.planning.space import check_space
from genbench.records.equality import has_equal_seconds, remarks_of
from genbench.records.job import Job
from genbench.records.outcome import Outcome, make_record
from genbench.records.queue import queued
from genbench.records.record import Failure, Record
from genbench.records.record_files import load_records, read_record
from genbench.records.run_folder import begin, earlier_attempts, end
from genbench.records.shared_training import trained_by
from genbench.records.task import Context, Need, News, Task, Work, is_last
from genbench.running.environment import environment
from genbench.running.run import is_done
from genbench.support import store
from genbench.support.denials import TEMPORARY, disk_errors
from genbench.support.errors import CorruptData, EnvironmentProblem, as_error
from genbench.support.lock import in_use, locked
from genbench.support.pace import Facts

EQUALLY = (
    "  hint: seconds compare models only if each has its processors for itself: run one job at a time (--jobs 1) and "
    "nothing else beside it, or give a budget in images, steps or FLOPs; in both cases with another --out"
)
Update = Callable[[Job, str, float, str, Facts], None]


def run_session(session: Session, update: Update, tell: Callable[[str], object] | None = None) -> list[Record]:
    """Run what is missing and return the records of all jobs, in the order of the plan.

    `tell` is told first what takes longer than one would think. `update(job, stage, share, text, facts)` is called as
    jobs progress. Once the others have ended, raises whatever kept a job from leaving a record, such as Busy if its
    folder is in use; such jobs are tried last.
    """
    missing = []
    for job in session.jobs:
        if is_done(job):
            update(job, "end", 1.0, "", {})
        else:
            missing.append(job)
    if missing:
        check_space(missing, session.plugins, session.datasets)
        if tell is not None:
            for text in announcements(session, missing):
                tell(text)
        with queued(session.jobs[0].runtime.out, missing):
            if errors := run_missing(missing, session, update):
                raise errors[0]
    return [load_records([job.folder])[0] for job in session.jobs]


def run_missing(jobs: list[Job], session: Session, update: Update) -> list[Exception]:
    """Run the jobs, and return what kept some from leaving a record.

    The rows `real` come first: they train and try the extractors, so that none of it disturbs another's clock. Those
    that share a training come after its trainer.
    """
    waiting, ready = trainers(jobs), []
    turns = [[job for job in jobs if job.id not in waiting and job.is_floor is floor] for floor in (True, False)]
    with marked(session) as context:
        errors = [error for turn in turns if turn for error in run_together(turn, session, context, update)]
        for job in (job for job in jobs if job.id in waiting):
            ended = record_of(waiting[job.id])
            if trained_by(job):
                ready.append(job)
            elif ended is not None and ended.error is not None:
                record_untrained(job, ended, ended.error, session)
                update(job, "end", 1.0, "", {})
        return errors + (run_together(ready, session, context, update) if ready else [])


def run_together(jobs: list[Job], session: Session, context: Context, update: Update) -> list[Exception]:
    """Pass the jobs to the executor, and follow them until the last has ended; returns the errors."""
    known, one_by_one = {job.id: job for job in jobs}, threading.Lock()
    errors: list[Exception] = []
    unheard = dict.fromkeys(known)

    def tell(news: News) -> None:
        with one_by_one:
            if "error" in news:
                errors.append(as_error(news["error"]))
            else:
                job, stage = known[news["id"]], news["stage"]
                text = how_it_ended(job) if stage == "end" else news["text"]
                update(job, stage, news["share"], text, news.get("facts", {}))
            if is_last(news):
                unheard.pop(news["id"], None)

    session.executor.run(Work(make_tasks(jobs, session, context), session.groups, session.at_once), tell)
    if unheard and not errors:
        name = session.jobs[0].runtime.executor
        message = f"--executor {name} finished without reporting on {', '.join(unheard)}"
        errors.append(EnvironmentProblem(message, "run again"))
    return errors


def how_it_ended(job: Job) -> str:
    """`failed`, `diverged` or `cancelled`; nothing if all went well, or if it cannot be read, which is told later."""
    with suppress(CorruptData, EnvironmentProblem):
        record = record_of(job)
        return record.status if record is not None and record.status != "complete" else ""
    return ""


def record_of(job: Job) -> Record | None:
    """The job's record, if it has one."""
    file = job.folder / "record.json"
    return read_record(file) if file.exists() else None


def record_untrained(job: Job, trainer: Record, error: Failure, session: Session) -> None:
    """Record that the training that the job shares did not finish, with the trainer's error."""
    message = f"the shared training of {trainer.job.id}: {error.message}"
    failure = error.model_copy(update={"message": message, "traceback": ""})
    stamp = session.datasets[job.dataset].stamp(job.kind)
    with disk_errors(job.folder), locked(job.folder):
        attempts = earlier_attempts(job.folder)
        begin(job, stamp)
        end(job, make_record(job, stamp, environment(job), Outcome(), trainer.status, failure, attempts))


def make_tasks(jobs: list[Job], session: Session, context: Context) -> list[Task]:
    """The jobs as tasks, longest first; in order and without estimates if they run one at a time here.

    Those whose folders are in use come last.
    """
    here = session.jobs[0].runtime.executor == "local"
    alone = here and session.at_once * len(session.groups) == 1
    needs = [Need()] * len(jobs) if alone else find_needs(jobs, session.context)
    tasks = longest_first(replace(session.task(job, need), context=context) for job, need in zip(jobs, needs))
    taken = {job.id for job in jobs if in_use(job.folder)}
    return sorted(tasks, key=lambda task: task.id in taken)


@contextmanager
def marked(session: Session) -> Iterator[Context]:
    """The context of tasks; if other machines may run them, with a file that identifies the output folder."""
    runtime = session.jobs[0].runtime
    if runtime.executor == "local":
        yield session.context
        return
    mark = runtime.out.absolute() / f"{TEMPORARY}{os.uname().nodename}_{os.getpid()}_shared"
    store.write_text(mark, "")
    try:
        yield replace(session.context, mark=str(mark))
    finally:
        mark.unlink(missing_ok=True)


def usage_remarks(records: Iterable[Record]) -> list[str]:
    """What was not as it should be while the runs trained and sampled, a line each, and last what to do about it."""
    records = list(records)
    lines = [f"{record.job.id}: warning: {text}" for record in records for text in remarks_of(record)]
    costs = [cost for record in records for cost in (record.cost.train, record.cost.sample)]
    if not all(map(has_equal_seconds, costs)):
        lines.append(EQUALLY)
    return lines


def worst_exit_code(records: Iterable[Record]) -> int:
    """0 if every job is complete, 130 if one was cancelled, 4 if one had a problem with its environment, else 1."""
    records = list(records)
    states = {record.status for record in records}
    if "cancelled" in states:
        return 130
    if any(record.error is not None and record.error.type == EnvironmentProblem.__name__ for record in records):
        return EnvironmentProblem.exit_code
    return 0 if states <= {"complete"} else 1
