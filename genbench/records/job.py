"""A job: one model on one dataset with one seed, its budget, and where it runs."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genbench.condition import ConditionSpec, Kind, kind_of
from genbench.records import protocol
from genbench.records.budget import Budget
from genbench.records.protocol import EvaluationSettings, versions
from genbench.records.record import JOB_AGAIN, REAL, REFERENCES, JobStamp, PluginStamp
from genbench.support import digests
from genbench.support.errors import CorruptData, removal
from genbench.support.sealed import read_sealed

TRAINING = 1
"""Version of the core's training; raise it when the same job would give other weights."""
SAMPLING = 1
"""Version of the core's sampling; raise it when the same weights would give other samples."""

STAMP = "dataset_stamp"
"""The key of job.json under which the file also has what a record keeps of the images."""
KEY_DIGITS = 10
"""Hex digits of a digest in the name of a run folder."""


class Runtime(BaseModel):
    """Where and how a job runs: nothing here is part of its identity, except what Job.identity takes from it."""

    model_config = ConfigDict(frozen=True)

    device: str = "cpu"
    peers: tuple[str, ...] = ()
    """Devices of the other processes that train the model together with this one."""
    threads: int = 1
    """CPU threads of the job, shared by its processes."""
    executor: str = "local"
    out: Path = Path("runs")
    cache: Path = Path(".cache")
    weights: Path | None = None
    offline: bool = False
    plugins: tuple[str, ...] = ()
    timeout: float | None = None
    hang_timeout: float | None = None
    """Seconds without progress after which the job is ended; None for no limit."""

    @property
    def processes(self) -> int:
        return 1 + len(self.peers)

    @property
    def process_threads(self) -> int:
        """CPU threads per process."""
        return max(1, self.threads // self.processes)


class Job(BaseModel):
    """One model on one dataset with one seed; immutable, and equal in every process."""

    model_config = ConfigDict(frozen=True, ignored_types=(cached_property,))

    model: str
    label: str
    config: dict[str, Any] = {}
    train_config: dict[str, Any] = {}
    sample_config: dict[str, Any] = {}
    plugin: PluginStamp
    dataset: str
    dataset_digest: str
    tune: bool = Field(False, exclude_if=lambda tune: not tune)
    """Whether it is scored on held-out training images, for tuning."""
    conditional: bool = False
    condition: ConditionSpec | None = Field(None, exclude_if=lambda condition: condition is None)
    """What it conditions on, None for nothing and for the class: `conditional` tells these two apart."""
    seed: int = 0
    budget: Budget
    precision: str = "fp32"
    compile: bool = False
    samples: int
    evaluation: EvaluationSettings = EvaluationSettings()
    extractor_stamps: dict[str, str] = {}
    measurers: dict[str, str] = {}
    """The plugins that measure besides the core, each with the digest of its source."""
    curve: int = 0
    tuning_trials: int | None = None
    runtime: Runtime = Runtime()
    foreign: str = ""
    """The digest of samples made elsewhere; empty for a model that is trained here."""
    external_data: tuple[str, ...] = ()
    command: tuple[str, ...] = Field((), exclude_if=lambda words: not words)
    """The words of the command that makes this job and no other; empty for a row without a model."""

    @property
    def kind(self) -> Kind | None:
        """The kind of what it conditions on, None for nothing."""
        return kind_of(self.conditional, self.condition)

    @property
    def row(self) -> str:
        """`gan`, or `gan (class)` if it conditions on that: what tells the rows of an experiment apart."""
        return f"{self.label} ({self.kind})" if self.kind else self.label

    @property
    def is_reference(self) -> bool:
        """Whether this is a reference row, which has no model."""
        return self.model in REFERENCES

    @property
    def is_floor(self) -> bool:
        """Whether this is `real`, the row that the extractors are tried for."""
        return self.model == REAL

    @property
    def is_trained(self) -> bool:
        """Whether a model is trained for it: not for a reference row, nor for samples made elsewhere."""
        return not (self.is_reference or self.foreign)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that training depends on, and nothing else: no number of workers, no paths."""
        device = self.runtime.device.split(":")[0]
        unused = (("micro_batch", 0), ("flip", False))
        config = {key: value for key, value in self.train_config.items() if (key, value) not in unused}
        return {
            "training": TRAINING, "model": self.model, "plugin": self.plugin.digest, "config": config,
            "dataset": self.dataset_digest, "conditional": self.conditional, "seed": self.seed,
            "budget": self.budget.as_dict(), "precision": self.precision, "device": device,
            "threads": self.runtime.threads if self.budget.is_timed else None,
            **({"compile": True} if self.compile else {}), **self._other_condition,
        }  # fmt: skip

    @cached_property
    def training_key(self) -> str:
        """The digest of the identity: rows that share it differ only in sampling, and share one training."""
        return digests.settings_digest(self.identity)

    @cached_property
    def id(self) -> str:
        """The run folder's name: a readable part, then the training's digest."""
        if self.is_reference:
            about = {"dataset": self.dataset_digest, "seed": self.seed, "model": self.model}
            encoder = {"encoder": self.condition.encoder} if self.condition and self.condition.encoder else {}
            key = digests.settings_digest(about | encoder)
        elif self.foreign:
            key = digests.settings_digest(
                {"dataset": self.dataset_digest, "samples": self.foreign, "model": self.model}
            )
        else:
            key = self.training_key
        given = {None: "", "class": "-cond"}.get(self.kind, f"-{self.kind}")
        apart = "-tune" if self.tune else ""
        return f"{self.label}-{self.dataset}{apart}{given}-seed{self.seed}-{key[:KEY_DIGITS]}"

    @cached_property
    def samples_key(self) -> str:
        """What the samples depend on beyond the weights: their number, the sampler, the label plan."""
        return digests.settings_digest(
            {"sampling": SAMPLING, "count": self.samples, "config": self.sample_config, "conditional": self.conditional}
            | self._other_condition
        )[:16]

    @property
    def _other_condition(self) -> dict[str, Any]:
        """What a key holds of a condition of another kind than the class."""
        return {"condition": asdict(self.condition)} if self.condition else {}

    @cached_property
    def evaluation_key(self) -> str:
        """What the measurements depend on beyond samples and extractors: settings, and versions of the metrics.

        Each extractor has its own stamp, since each can be added separately.
        """
        behind = {"samples": self.samples_key, "likelihood": protocol.LIKELIHOOD, "versions": versions()}
        behind |= self.evaluation.model_dump(mode="json", exclude={"extractors"})
        return digests.settings_digest(behind)[:16]

    def stamp(self) -> JobStamp:
        """What a record keeps of the job."""
        return JobStamp(**{name: getattr(self, name) for name in JobStamp.model_fields})

    @property
    def folder(self) -> Path:
        return self.runtime.out / self.id


def read_job(folder: Path) -> Job:
    """The job of a run folder. Raises CorruptData."""
    file = folder / "job.json"
    fix = removal(folder / "record.json", file, then=JOB_AGAIN)
    try:
        return Job.model_validate(read_sealed(file, fix, required=False))
    except ValidationError as error:
        first = error.errors()[0]
        fault = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
        raise CorruptData(f"{file}: not a job: {fault}", fix) from error
