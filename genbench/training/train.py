"""The default `train`: this process, and the others that train the model with it."""

from __future__ import annotations

import logging
import signal
from multiprocessing import current_process
from pathlib import Path
from typing import Any

import torch

from genbench.data.dataset import Dataset
from genbench.devices import exact_arithmetic, use_threads
from genbench.extension.loading import load_into
from genbench.extension.registry import Plugins
from genbench.metering.meter import Meter
from genbench.metering.progress_log import ProgressLog
from genbench.model import Model
from genbench.records.job import Job
from genbench.support.errors import GenbenchError, ProcessFailed, describe
from genbench.support.processes import Say
from genbench.training.loop import build_model, train_with
from genbench.training.team import PeerLost, gathered, join, meeting_point


def train(job: Job, model: Model, data: Dataset, folder: Path, meter: Meter, log: ProgressLog | None = None) -> Model:
    """Train `model` to the job's budget, resuming from its checkpoint, if any; returns it with averaged weights."""
    with gathered(job, data, folder, meter, worker_main) as team:
        return train_with(team, job, model, data, folder, meter, log)


def worker_main(say: Say, rank: int, port: int, plain: dict[str, Any], data: Dataset, folder: Path) -> None:
    """Entry point of a process that the leader starts: it builds the model, joins, trains, and writes nothing."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the leader decides when to stop, and this process ends with it
    logging.captureWarnings(True)
    try:
        job = Job.model_validate(plain)
        device = torch.device(job.runtime.device)
        use_threads(job.runtime.process_threads)
        exact_arithmetic()
        model = build_model(job, load_into(Plugins(), job.runtime.plugins), data, device)
        say("ready")
        team = join(rank, job.runtime.processes, meeting_point(port), device)
        meter = Meter(device)
        with meter.training():
            train_with(team, job, model, data, folder, meter)
    except PeerLost:
        raise SystemExit(1) from None
    except GenbenchError as error:
        raise type(error)(f"{current_process().name}: {error.message}", error.hint) from error
    except BaseException as error:
        raise ProcessFailed(f"{current_process().name}: {describe(error)}") from error
