"""One task in its own process, watched to its end; `python -m genbench.executors.supervise` does the same."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from genbench.records.job import Job
from genbench.records.outcome import Outcome, make_record
from genbench.records.record import DatasetStamp, Failure
from genbench.records.run_folder import TRACEBACK, earlier_attempts, end
from genbench.records.task import News, Task, Tell
from genbench.support import clock, progress, store
from genbench.support.denials import disk_errors
from genbench.support.errors import EnvironmentProblem, GenbenchError
from genbench.support.lock import locked
from genbench.support.processes import Child

LOOK_SECONDS = 0.2


def supervise(task: Task, tell: Tell, stopping: Callable[[], bool]) -> None:
    """Run a task and report its progress, until it has a record or has reported what kept it from leaving one.

    A process that dies or times out leaves a failed record. When `stopping()` is true, it is asked to checkpoint.
    """
    from genbench.executors.child import job_main

    try:
        check_here(task)
        with locked(task.folder):  # report Busy before starting a process
            pass
        tell(task.news("start"))
        with Child(task.id, job_main, task.job, task.context) as child:
            watch(child, task, tell, stopping)
        tell(task.news("end", 1.0))
    except GenbenchError as error:
        tell(task.problem(error))


def check_here(task: Task) -> None:
    """Raise EnvironmentProblem if this machine does not see the output folder of the one that planned the task."""
    mark = task.context.mark
    if mark and not Path(mark).exists():
        raise EnvironmentProblem(
            f"--out {Path(mark).parent} is not the same folder on {os.uname().nodename}",
            "give a folder that all machines share, by the same path",
        )


def watch(child: Child, task: Task, tell: Tell, stopping: Callable[[], bool]) -> None:
    """Pass on what the child of a task says until it ends, and write a failed record if it died.

    Raises the error that kept it from leaving a record.
    """
    process, began, limit = child.process, clock.now(), task.job["runtime"]["timeout"]
    late = ""

    def pass_on() -> None:
        for said in child.said():
            tell({"id": task.id, **said})

    while process.is_alive():
        child.wait(LOOK_SECONDS)
        pass_on()
        if stopping():
            process.terminate()  # more than once: a process that is just starting ignores it
        if limit and clock.now() - began > limit:
            late = f"stopped after --timeout {limit:g} seconds"
            process.kill()
            process.join()
    pass_on()
    silent = (task.folder / progress.WHERE).exists()  # it had no time to speak for itself, even if its exit code is 0
    if (process.exitcode or silent) and not stopping():
        record_death(task, f"its process {child.ending()}", late)


def record_death(task: Task, message: str, late: str = "") -> None:
    """Write the record of a task whose process left none, from its last words; `late` is why it was killed, if so.

    Neither plugin nor dataset is loaded, so that whatever killed the process cannot strike again here.
    """
    from genbench.running.environment import environment

    job = Job.model_validate(task.job)
    with disk_errors(job.folder), locked(job.folder):
        last = progress.last_words(job.folder)
        if last.hung:
            message = f"no progress for {job.runtime.hang_timeout or 0:g} seconds (--hang-timeout)"
        if last.traceback:
            store.write_text(job.folder / TRACEBACK, last.traceback)
        failure = Failure(
            type="Hung" if last.hung and not late else "ProcessDied", message=late or message, hook=last.hook,
            step=last.step, plugin=job.plugin.name, traceback=TRACEBACK if last.traceback else "",
        )  # fmt: skip
        store.sweep(job.folder)
        stamp, attempts = DatasetStamp.model_validate(task.dataset), earlier_attempts(job.folder)
        end(job, make_record(job, stamp, environment(job), Outcome(), "failed", failure, attempts))


def main(source: str) -> None:
    """Supervise the task in a JSON file or, for `-`, in the first line of stdin, whose end then ends the task.

    News are JSON lines on stdout; nothing else is written there. SIGTERM and SIGINT ask the task to checkpoint.
    """
    words = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a plugin prints is not news
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    def tell(news: News) -> None:
        with suppress(BrokenPipeError):
            print(json.dumps(news), file=words, flush=True)

    task = Task.from_json(sys.stdin.readline() if source == "-" else Path(source).read_text(encoding="utf-8"))
    if source == "-":
        threading.Thread(target=_end_with, args=(sys.stdin,), daemon=True).start()
    supervise(task, tell, stopping.is_set)


def _end_with(stream: Any) -> None:
    """End this process, and with it its child, when its starter is gone."""
    stream.read()
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
