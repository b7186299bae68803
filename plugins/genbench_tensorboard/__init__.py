"""Every job to TensorBoard, while it trains.

    genbench run --plugin genbench_tensorboard
    tensorboard --logdir runs/tensorboard

The logs are in `tensorboard/` beside the run folders. The horizontal axis is the number of images trained on.
"""

from pathlib import Path
from typing import Any

from genbench import EnvironmentProblem, Job, Record, hookimpl
from genbench.plots.sheets import first_samples, sheet
from genbench.records.numbers import images_of, numbers_of, numbers_of_point
from genbench.records.slots import flatten

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError as error:
    raise EnvironmentProblem("it needs TensorBoard", 'pip install "genbench[tensorboard]"') from error

genbench_api = 2
writers: dict[Path, SummaryWriter] = {}


def writer_of(job: Job, purge_step: int | None = None) -> SummaryWriter:
    """The job's writer; what an earlier attempt wrote from `purge_step` on is hidden."""
    folder = job.runtime.out / "tensorboard" / job.id
    if folder not in writers:
        writers[folder] = SummaryWriter(folder, purge_step=purge_step)
    return writers[folder]


@hookimpl
def job_progress(job: Job, point: dict[str, Any]) -> None:
    writer = writer_of(job, purge_step=point["images"])
    for name, value in numbers_of_point(point).items():
        writer.add_scalar(name, value, point["images"])
    writer.flush()


@hookimpl
def job_finished(job: Job, record: Record) -> None:
    writer = writer_of(job)
    images = images_of(record)
    writer.add_text("status", f"{record.status}: {record.error.message}" if record.error else record.status)
    if record.status == "complete" and (samples := first_samples(record)) is not None:
        writer.add_image("samples", sheet(samples), images, dataformats="HWC")
    writer.flush()
    settings = {**flatten(record.job.model_dump(mode="json")), "status": record.status}
    plain = {name: value if isinstance(value, bool | int | float) else str(value) for name, value in settings.items()}
    writer.add_hparams(plain, numbers_of(record), run_name=".", global_step=images)
    writer.close()
    del writers[Path(writer.log_dir)]
