"""The child process of one job: loads plugins and dataset anew, runs the job, tells its parent how far it is."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from genbench import __version__, progress
from genbench.data import Dataset, known_datasets, prepare
from genbench.errors import CorruptData, EnvironmentProblem, GenbenchError
from genbench.executors.task import plain_error
from genbench.faults import arm
from genbench.planning.plan import Job
from genbench.plugins import Plugins, load_plugins

PR_SET_PDEATHSIG = 1


def child_main(plain: dict[str, Any], context: dict[str, Any], sender: Connection) -> None:
    """Run the job of `plain`; its record is the result. What keeps it from leaving one is told to the parent."""
    die_with_parent()
    arm()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: progress.request_stop())
    logging.captureWarnings(True)

    def tell(stage: str, share: float, text: str) -> None:
        try:
            sender.send({"stage": stage, "share": share, "text": text})
        except OSError:
            progress.listen(None)

    progress.listen(tell)
    from genbench.run import run_job

    try:
        job = Job.model_validate(plain)
        plugins = load_plugins(job.runtime.plugins)
        check_code(job, context, plugins)
        run_job(job, prepared(job, context, plugins), plugins, watched=True)
    except GenbenchError as error:
        sender.send({"error": plain_error(error)})


def check_code(job: Job, context: dict[str, Any], plugins: Plugins) -> None:
    """Raise EnvironmentProblem where this process would run other code than the job was planned with."""
    digest = "" if job.is_reference else plugins.model(job.model)[1].digest
    if (context["genbench"], job.plugin.digest) != (__version__, digest):
        what = f"genbench {__version__}, or plugin {job.plugin.name!r}, on {os.uname().nodename}"
        raise EnvironmentProblem(
            f"{job.id}: {what} is not what the job was planned with",
            "where the source has changed meanwhile, run again; on another machine, install the same",
        )


def prepared(job: Job, context: dict[str, Any], plugins: Plugins | None = None) -> Dataset:
    """The job's dataset, which the plan has prepared. Raises CorruptData where its images have changed since."""
    entries = known_datasets([Path(file) for file in context["datasets"]], plugins)
    dataset = prepare(entries[job.dataset], Path(context["data_root"]), offline=True)
    if dataset.digest != job.dataset_digest:
        was, now = job.dataset_digest[:12], dataset.digest[:12]
        raise CorruptData(f"dataset {job.dataset!r} has changed since the plan: digest {was}, now {now}", "run again")
    return dataset


def die_with_parent() -> None:
    """End this process when its parent ends, so that no orphan goes on writing.

    Linux also ends it when the server ends that it was forked from, which the parent's end ends: a process that hangs
    in foreign code runs no thread that could notice.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()
