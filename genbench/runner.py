"""Running a session: the jobs that are not done, then the records of all of them."""

from __future__ import annotations

from collections.abc import Iterable

from genbench.errors import EnvironmentProblem
from genbench.executors import local
from genbench.records import Record, load_records
from genbench.run import is_done
from genbench.session import Session
from genbench.space import check_space


def run_session(session: Session, update: local.Update) -> list[Record]:
    """Run what is missing; the records of all jobs, in the order of the plan. Raises Busy where a folder is in use."""
    missing = []
    for job in session.jobs:
        if is_done(job):
            update(job, "end", 1.0, "")
        else:
            missing.append(job)
    if missing:
        check_space(missing, session.plugins, session.datasets)
        problems = local.run_jobs(missing, session.groups, session.at_once, session.context, update)
        if problems:
            raise problems[0]
    return [load_records([job.folder])[0] for job in session.jobs]


def worst_exit_code(records: Iterable[Record]) -> int:
    """0 when every job is complete, 130 when one was cancelled, 4 when one lacked space or the like, else 1."""
    records = list(records)
    states = {record.status for record in records}
    if "cancelled" in states:
        return 130
    if any(record.error is not None and record.error.type == EnvironmentProblem.__name__ for record in records):
        return EnvironmentProblem.exit_code
    return 0 if states <= {"complete"} else 1
