"""A job -> the command that makes it again, on another day and another machine."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from genbench.condition import OF_DATASET
from genbench.planning.config import Experiment, ModelChoice, parse_setting
from genbench.records.job import Job
from genbench.support.text import redacted
from genbench.support.toml_file import written

OWN = (
    "models", "datasets", "seeds", "budget", "precision", "conditional", "condition", "extractors", "compile", "curve",
    "plugins", "title",
)  # fmt: skip
"""The keys of an experiment that are written by what the job made of them; all others as they were given."""


def with_command(
    job: Job, experiment: Experiment, files: Iterable[Path], observers: Container[str], encoder: str | None = None
) -> Job:
    """The job with its `command`, given the files of datasets and the words of `--encoder`.

    A reference row, which any model brings, has none.

    Plugins that only observe, `observers`, are no part of it.
    """
    if not job.is_trained:
        return job
    rows = [choice for choice in experiment.models if choice.label == job.label]
    choice = next((row for row in rows if experiment.kind_of(row) in (job.kind, OF_DATASET)), rows[0])
    needed = [plugin for plugin in job.runtime.plugins if plugin not in observers]
    words = ("genbench", "run", *_of_job(job, choice), *_of_experiment(experiment), *_of_files(needed, files))
    if encoder and job.condition and job.condition.encoder:
        name, given, folder = encoder.partition("=")
        words += ("--encoder", f"{name}{given}{Path(folder).name}")
    return job.model_copy(update={"command": tuple(map(redacted, words))})


def _of_job(job: Job, choice: ModelChoice) -> Iterator[str]:
    yield from ("-m", job.model)
    label = {} if job.label == job.model else {"label": job.label}
    preset = {} if choice.preset is None else {"preset": choice.preset}
    for key, value in {**label, **preset, **{key: job.config[key] for key in choice.config}}.items():
        if value is not None:
            yield from ("--set", f"{job.model}.{key}={_text(value)}")
    yield from ("-d", job.dataset, "--seeds", f"{job.seed},", "--budget", job.budget.option)
    if job.kind is not None:
        yield from ["--conditional"] if job.kind == "class" else ["--condition", job.kind]
    yield from ["--compile"] if job.compile else []
    yield from ["--curve", str(job.curve)] if job.curve else []
    runtime = job.runtime
    yield from ("--precision", job.precision, "--device", runtime.device.partition(":")[0])
    yield from ["--processes", str(runtime.processes)] if runtime.processes > 1 else []


def _of_experiment(experiment: Experiment) -> Iterator[str]:
    """What the suite or the command line says besides, if it is not the default."""
    for key, field in Experiment.model_fields.items():
        value = getattr(experiment, key)
        if key not in OWN and value != field.default:
            option = f"--{key.replace('_', '-')}"
            yield from [option] if value is True else [option, str(value)]
    for name in experiment.extractors:
        yield from ("--extractor", name)


def _of_files(plugins: Iterable[str], files: Iterable[Path]) -> Iterator[str]:
    """The files behind it by their names alone: where they lay is nobody else's business."""
    for plugin in plugins:
        yield from ("--plugin", Path(plugin).name)
    for file in files:
        yield from ("--datasets", file.name)


def _text(value: Any) -> str:
    """The value of `--set`: a bare word if it is read as one, else TOML."""
    bare = isinstance(value, str) and value == value.strip() and parse_setting(f"m.k={value}")[2] == value
    return str(value) if bare else written(value)
