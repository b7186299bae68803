"""Every job to Weights & Biases, while it trains.

    wandb login
    genbench run --plugin genbench_wandb

A job is a run of the project WANDB_PROJECT, by default `genbench`; `WANDB_MODE=offline` needs no network.
"""

import os
from multiprocessing import parent_process
from typing import Any

from genbench import EnvironmentProblem, Job, Record, hookimpl
from genbench.plots.sheets import first_samples, sheet
from genbench.records.numbers import numbers_of, numbers_of_point

try:
    import wandb
except ImportError as error:
    raise EnvironmentProblem("it needs wandb", 'pip install "genbench[wandb]"') from error

if parent_process() is None and os.environ.get("WANDB_MODE", "online") == "online":  # the command's, before any job
    try:
        wandb.login(verify=False)
    except wandb.errors.UsageError as error:
        raise EnvironmentProblem(f"W&B: {error}", "`wandb login`, or set WANDB_MODE=offline") from error

genbench_api = 2
runs: dict[str, Any] = {}


def run_of(job: Job) -> Any:
    """The job's run, which a resumed job continues."""
    if job.id not in runs:
        runs[job.id] = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "genbench"), id=job.id, name=job.id, resume="allow",
            group=job.label, tags=[job.dataset], config=job.stamp().model_dump(mode="json"),
            settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip
        runs[job.id].define_metric("*", step_metric="images")
    return runs[job.id]


@hookimpl
def job_progress(job: Job, point: dict[str, Any]) -> None:
    run_of(job).log({"images": point["images"], **numbers_of_point(point)})


@hookimpl
def job_finished(job: Job, record: Record) -> None:
    run = run_of(job)
    run.summary.update({**numbers_of(record), "status": record.status})
    if record.error:
        run.summary["error"] = record.error.message
    if record.status == "complete" and (samples := first_samples(record)) is not None:
        run.log({"samples": wandb.Image(sheet(samples))})
    run.finish(exit_code=int(record.status != "complete"))
    del runs[job.id]
