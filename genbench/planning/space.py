"""The disk space that jobs need, checked before any of them starts."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from genbench.planning.needs import alike
from genbench.planning.shadow import build_job
from genbench.planning.sharing import trainers
from genbench.records.shared_training import trained_by
from genbench.support.errors import EnvironmentProblem

if TYPE_CHECKING:
    from genbench.data.dataset import Dataset
    from genbench.extension.registry import Plugins
    from genbench.records.job import Job

COPIES = 4
"""Values in a checkpoint per weight: the weight, its average, and two optimizer moments."""
CHECKPOINTS = 3
"""On disk while one is written: the new, the latest and the previous one."""
MARGIN = 1.1


def check_space(jobs: Iterable[Job], plugins: Plugins, datasets: dict[str, Dataset]) -> None:
    """Raise EnvironmentProblem if the output folder has less free space than checkpoints and samples need."""
    jobs, needed, sizes = list(jobs), dict[Path, float](), dict[tuple[str, bool], float]()
    waiting = trainers(jobs)
    for job in jobs:
        there = sum(map(_size, job.folder.rglob("*")))
        trains = job.is_trained and job.id not in waiting and not trained_by(job)
        key = (alike(job), trains)
        if key not in sizes:
            sizes[key] = job_bytes(job, plugins, datasets[job.dataset], trains)
        room = MARGIN * sizes[key] - there
        needed[job.runtime.out] = needed.get(job.runtime.out, 0.0) + max(0.0, room)
    for out, room in needed.items():
        place = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
        free = shutil.disk_usage(place).free
        if free < room:
            raise EnvironmentProblem(
                f"{out}: {free / 1e9:,.3g} GB free, but the runs need about {room / 1e9:,.3g} GB",
                "free some space, or choose a folder on another disk with --out",
            )


def _size(file: Path) -> int:
    """The bytes of a file; 0 for anything else, and for one that another process has just taken away."""
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:
        return 0


def job_bytes(job: Job, plugins: Plugins, data: Dataset, trains: bool) -> float:
    """The most that a job's folder holds at any time: checkpoints, weights for the curve, and two copies of samples.

    A job that reuses another row's training stores only one copy of the averaged weights.
    """
    samples: float = 2.0 * job.samples * math.prod(data.shape)
    if not job.is_trained:
        return samples
    state = build_job(job, plugins, data).state_dict().values()
    weights: int = sum(tensor.numel() * tensor.element_size() for tensor in state)
    return samples + weights * ((COPIES * CHECKPOINTS if trains else 1) + job.curve)
