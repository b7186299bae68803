"""Every hook of genbench. Nouns are registered; verbs are hooks whose default, the core's, is called last.

`train` and `sample` stop at the first result, so a plugin that handles only its own models returns None for others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from genbench.data.dataset import Dataset
    from genbench.data.encoders import Encoder
    from genbench.data.source import Source
    from genbench.metering.meter import Meter
    from genbench.metering.progress_log import ProgressLog
    from genbench.model import Model
    from genbench.records.job import Job
    from genbench.records.record import Measurement, Record
    from genbench.records.samples import Samples
    from genbench.records.task import Executor

API, OLDEST_API = 2, 1
"""Versions of these hooks and of what `genbench` exports: this one, which a plugin may state as `genbench_api`, and the
oldest whose plugins still work. API rises when plugins can use something new, OLDEST_API when they must change."""
Calibration = Callable[[], Iterable[tuple[str, float, float, float]]]
"""Checks of numbers with known values: (name, number, known value, tolerance)."""
hookspec = pluggy.HookspecMarker("genbench")
hookimpl = pluggy.HookimplMarker("genbench")


@hookspec
def register_models(register: Callable[[type[Model]], None]) -> None:
    """Call `register(cls)` for each model class. Called by `genbench.extension.registry` when plugins are loaded."""


@hookspec
def register_datasets(register: Callable[[str, dict[str, object]], None]) -> None:
    """Call `register(name, entry)` for each dataset, a table as in datasets.toml.

    Called by `genbench.planning.session`.
    """


@hookspec
def register_sources(register: Callable[[str, type[Source]], None]) -> None:
    """Call `register(name, cls)` for each kind of dataset source, which datasets files name by `source = name`.

    `cls` is a subclass of `genbench.data.source.Source` with `splits` and `state`; its fields are the keys of an entry.
    Called by `genbench.extension.registry` when plugins are loaded.
    """


@hookspec
def register_extractors(register: Callable[[str, Callable[[], object]], None]) -> None:
    """Call `register(name, build)` for each feature extractor; `build()` makes it. Called by `genbench.evaluate`."""


@hookspec
def register_encoders(register: Callable[[str, Callable[[Path | None], Encoder]], None]) -> None:
    """Call `register(name, build)` for each frozen encoder of text, which `--encoder NAME=FOLDER` chooses.

    `build(folder)`, None where only a name is given, makes a `genbench.data.encoders.Encoder`: `identity`, `shape` and
    `encode`. Called by `genbench.planning.session`.
    """


@hookspec
def register_executors(register: Callable[[str, Callable[[], Executor]], None]) -> None:
    """Call `register(name, build)` for each way to run jobs; `build()` makes it.

    Called by `genbench.planning.session`.
    """


@hookspec
def register_calibrations(register: Callable[[str, Calibration], None]) -> None:
    """Call `register(name, checks)` for each group of exact checks of a model's arithmetic.

    Called by `genbench.commands.calibrate`.
    """


@hookspec(firstresult=True)
def train(job: Job, model: Model, data: Dataset, folder: Path, meter: Meter, log: ProgressLog) -> Model | None:
    """Train `model` to the job's budget and return the model to sample from; timed.

    A training of one's own counts its steps and images on `meter`. Its learning curve it adds to `log`, point by point,
    from which `job_progress` is called; first of all it calls `log.rewind`. Called by `genbench.running.run`.
    """


@hookspec(firstresult=True)
def sample(job: Job, model: Model, data: Dataset, folder: Path, meter: Meter) -> Samples | None:
    """Draw the job's samples from the trained model; timed. Called by `genbench.running.run`."""


@hookspec
def evaluate(job: Job, model: Model | None, samples: Samples | None, data: Dataset) -> list[Measurement] | None:
    """Measure samples or model; two measurements of one (metric, protocol) are an error.

    Called by `genbench.running.run`. `model` is None if there are only samples (the reference rows, foreign samples),
    `samples` is None for a model that draws none.
    """


@hookspec
def job_progress(job: Job, point: dict[str, Any]) -> None:
    """Observe a point of the learning curve while a job trains: at 200 equal shares of its budget, one for each phase.

    `point` is plain data of the observer's own, with what the line of progress.jsonl has::

        {"step": 250, "images": 16000, "seconds": 12.3, "share": 0.205, "phase": "train", "learning_rate": 0.001,
         "losses": {"loss": 0.41, "reconstruction": 0.34, "kl": 0.07}}

    `step`, `images` and `seconds` (on the clock) are those of the training so far, `share` is that of its budget, and
    `losses` are the means, since the point before, of all that `loss` returned in this phase, if they are finite.
    `learning_rate` is None if a plugin's own training does not tell it.

    No number depends on it: the clock stands meanwhile, global generators are put back, exceptions are only logged,
    once an observer. Only the first of several processes calls it. If a killed job resumes, the points after its last
    checkpoint come again. There are none for `real` and `noise`, nor for weights that exist already.
    Called by `genbench.extension.observers`.
    """


@hookspec
def job_finished(job: Job, record: Record) -> None:
    """Observe a finished job after its record is written; exceptions are only logged.

    A job that was asked to stop has the status `cancelled`; one that was killed is not told of. Both resume.
    Called by `genbench.extension.observers`.
    """
