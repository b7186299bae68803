"""Every job to MLflow, while it trains.

    genbench run --plugin genbench_mlflow
    mlflow ui

A job is a run of the experiment MLFLOW_EXPERIMENT_NAME, by default `genbench`, at MLFLOW_TRACKING_URI, by default in
the working folder. Steps are the number of images trained on.
"""

import os
from typing import Any

from genbench import EnvironmentProblem, Job, Record, hookimpl
from genbench.plots.sheets import first_samples, sheet
from genbench.records.numbers import images_of, numbers_of, numbers_of_point
from genbench.records.slots import flatten
from genbench.support.digests import settings_digest

try:
    import mlflow
except ImportError as error:
    raise EnvironmentProblem("it needs MLflow", 'pip install "genbench[mlflow]"') from error

genbench_api = 2
ENDS = {"complete": "FINISHED", "cancelled": "KILLED"}


def enter_run(job: Job) -> None:
    """Enter the job's run, if this process has not yet: the one that it had before it was killed, or a new one."""
    if mlflow.active_run() is not None:
        return
    settings = job.stamp().model_dump(mode="json")
    key = settings_digest(settings)
    mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "genbench"))
    for run in mlflow.search_runs(filter_string=f"tags.genbench = '{key}'", max_results=1, output_format="list"):
        mlflow.start_run(run.info.run_id)
        return
    mlflow.start_run(run_name=job.id, tags={"genbench": key})
    mlflow.log_params(flatten(settings))


@hookimpl
def job_progress(job: Job, point: dict[str, Any]) -> None:
    enter_run(job)
    mlflow.log_metrics(numbers_of_point(point), step=point["images"])


@hookimpl
def job_finished(job: Job, record: Record) -> None:
    enter_run(job)
    mlflow.log_metrics(numbers_of(record), step=images_of(record))
    mlflow.set_tags({"status": record.status, "error": record.error.message if record.error else ""})
    if record.status == "complete" and (samples := first_samples(record)) is not None:
        mlflow.log_image(sheet(samples), "samples.png")
    mlflow.end_run(ENDS.get(record.status, "FAILED"))
