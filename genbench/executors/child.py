"""The child process of one job: loads plugins and dataset afresh, runs the job and reports progress to its parent."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

from genbench.extension.registry import Plugins
from genbench.records.job import Job
from genbench.records.task import Context
from genbench.running.defaults import load_plugins
from genbench.running.loading import prepared
from genbench.support import progress
from genbench.support.errors import EnvironmentProblem
from genbench.support.faults import arm
from genbench.support.pace import Facts
from genbench.support.processes import Say
from genbench.support.version import __version__


def job_main(say: Say, plain: dict[str, Any], context: Context) -> None:
    """Run a job, given as plain data; its record is the result. Raises what kept it from leaving one."""
    arm()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: progress.request_stop())
    logging.captureWarnings(True)

    def tell(stage: str, share: float, text: str, facts: Facts) -> None:
        try:
            say({"stage": stage, "share": share, "text": text, **({"facts": facts} if facts else {})})
        except OSError:
            progress.listen(None)

    progress.listen(tell)
    from genbench.running.run import run_job

    job = Job.model_validate(plain)
    plugins = load_plugins(job.runtime.plugins)
    check_code(job, context, plugins)
    run_job(job, prepared(job, context, plugins), plugins, watched=True)


def check_code(job: Job, context: Context, plugins: Plugins) -> None:
    """Raise EnvironmentProblem if this process would run other code than the job was planned with."""
    digest = "" if job.is_reference else plugins.model(job.model)[1].digest
    if (context.genbench, job.plugin.digest) != (__version__, digest):
        what = f"genbench {__version__}, or plugin {job.plugin.name!r}, on {os.uname().nodename}"
        raise EnvironmentProblem(
            f"{job.id}: {what} is not what the job was planned with",
            "if the source has changed since, run again; on another machine, install the same versions",
        )
