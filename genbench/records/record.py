"""record.json: what a job measured, as strict JSON that every later version can read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    FiniteFloat,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from genbench.condition import ConditionSpec, Kind, kind_of
from genbench.records.budget import Budget
from genbench.records.code import CodeStamp
from genbench.records.cost import Cost
from genbench.records.ruler import Ruler
from genbench.records.stored import Stored
from genbench.support.digests import digest, settings_digest
from genbench.support.errors import CorruptData, did_you_mean, removal
from genbench.support.store import refuse_constant

SCHEMA = 1
READING = {"reading": True}
"""The validation context of stored data: fields of newer versions are kept."""
SEAL, END = ',\n "digest": "', '"\n}\n'
"""The text before and after a record's digest, its last key."""
JOB_AGAIN = (
    "then run its job again, which uses what is stored beside it; `genbench verify` lists all that is wrong with a run"
)
CHANGED = "changed since it was written: its digest does not match"
REAL = "real"
ALWAYS = (REAL, "noise", "copies")
"""The reference rows of every dataset."""
ANSWERED = ("original", "shuffled", "neighbour", "mean", "posterior")
"""Those of a condition that shows a part of an image: answers that need no model (`genbench.running.answers`)."""
REFERENCES = (*ALWAYS, *ANSWERED)
NO_SAMPLES = "the model draws no samples"
OTHER_CODE = "other code"
RunStatus = Literal["complete", "failed", "diverged", "cancelled", "running", "interrupted"]
"""How a run ended; the last two are of one that has not, and stand in no file."""
UNDER_WAY = ("running", "interrupted")
Protocols = dict[str, dict[str, Any]]
"""Settings by fingerprint."""
ValueStatus = Literal["ok", "not_applicable", "not_enough_samples", "failed", "diverged"]


def fingerprint(settings: Mapping[str, Any]) -> str:
    """The first 12 hex digits of the SHA-256 of the settings as canonical JSON."""
    return settings_digest(settings)[:12]


class Measurement(Stored):
    """One number and all that is needed to read it: `value` is finite, or None with a status and a note.

    `protocol` is the fingerprint of `settings`, everything that determines the number; a record keeps each protocol
    once. `parts` are named summands of the value, in its unit (the terms of a bound); those of a share that is
    held against real images are these images' own: `real`, and `real_high`, the upper end of its 95 % interval.
    `discrete` means that a likelihood is that of the 256 levels themselves, not a density of dequantised images, which
    bounds it. `deviation` is over the subsets or splits whose mean the value is: papers print it, but it is no error.

    An unknown field is refused when a measurement is made, and kept when a record is read.
    """

    metric: str
    value: FiniteFloat | None
    stderr: FiniteFloat | None = None
    deviation: FiniteFloat | None = None
    interval: tuple[FiniteFloat, FiniteFloat] | None = None
    count: int = 0
    parts: dict[str, FiniteFloat] = {}
    better: Literal["lower", "higher"]
    kind: Literal["exact", "bound", "estimate"] = "estimate"
    discrete: bool = False
    protocol: str = ""
    settings: dict[str, Any] = Field(default_factory=dict, exclude=True)
    status: ValueStatus = "ok"
    note: str = ""

    @model_validator(mode="before")
    @classmethod
    def known_fields(cls, values: Any, info: ValidationInfo) -> Any:
        unknown = set(values) - cls.model_fields.keys() if isinstance(values, Mapping) else set()
        if unknown and info.context != READING:
            name = sorted(unknown)[0]
            raise ValueError(f"no field {name!r}: {did_you_mean(name, set(cls.model_fields))}")
        return values

    @model_validator(mode="after")
    def value_or_reason(self) -> Measurement:
        if not self.protocol:
            self.protocol = fingerprint(self.settings)
        if (self.value is None) != (self.status != "ok"):
            raise ValueError(f"{self.metric}: a value is a finite number, or null with a status")
        if self.value is None and not self.note:
            raise ValueError(f"{self.metric}: say in `note` why there is no value")
        return self


class JobStamp(Stored):
    """What a record keeps of its job."""

    id: str
    model: str
    label: str
    config: dict[str, Any] = {}
    dataset: str
    seed: int
    budget: Budget = Budget()
    precision: str = "fp32"
    compile: bool = False
    conditional: bool = False
    condition: ConditionSpec | None = Field(None, exclude_if=lambda condition: condition is None)
    """What the model is conditioned on, None for nothing and for the class: `conditional` tells these two apart."""
    tune: bool = Field(False, exclude_if=lambda tune: not tune)
    """Whether it is scored on held-out training images, for tuning."""

    @property
    def kind(self) -> Kind | None:
        """The kind of what the model is conditioned on, None for nothing."""
        return kind_of(self.conditional, self.condition)

    @property
    def block(self) -> str:
        """What its row is ranked with: rows that are conditioned alike."""
        if self.condition is None:
            return "Conditional" if self.conditional else "Unconditional"
        encoder = f" by {self.condition.encoder}" if self.condition.encoder else ""
        return f"Conditional on {self.condition.kind}{encoder}"

    @field_serializer("budget")
    def _plain_budget(self, budget: Budget) -> dict[str, float]:
        return budget.as_dict()


class SamplesStamp(Stored):
    """The samples of a run: how many, by which options of sampling, and how their labels or conditions were chosen."""

    key: str = ""
    count: int = 0
    config: dict[str, Any] = {}
    labels: str = "none"
    conditions: str = Field("", exclude_if=lambda words: not words)
    """How conditions of another kind than the class were chosen."""
    clamped_share: FiniteFloat | None = None


class Entropy(Stored):
    """The entropy, in bits/dim, of the distribution that images were drawn from: no model's NLL can be below it.

    The true value lies within `error` of `bits_per_dim`; `note` says how it was computed.
    """

    bits_per_dim: FiniteFloat
    error: FiniteFloat
    note: str = ""


def tuning_name(dataset: str) -> str:
    """What a dataset is called where some of its training images stand in the place of its test images."""
    return f"{dataset} (tuning split)"


class DatasetStamp(Stored):
    """The images of a run; `entropy` only if their distribution is known; `classes` are the classes' names by label.

    `words` is the vocabulary of captions, if the run conditions on them.

    With `tuning`, which its name says too, the `test` images are training images that were held out.
    """

    name: str
    digest: str
    shape: tuple[int, int, int]
    num_classes: int
    counts: dict[str, int]
    entropy: Entropy | None = None
    classes: tuple[str, ...] = Field((), exclude_if=lambda names: not names)
    words: tuple[str, ...] = Field((), exclude_if=lambda words: not words)
    tuning: bool = Field(False, exclude_if=lambda tuning: not tuning)


class PluginStamp(Stored):
    """A plugin and the digest of its source: of its meaning or, in records of earlier versions, of its bytes."""

    name: str
    version: str
    digest: str = ""
    digest_of: Literal["bytes", "meaning"] = "bytes"

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()

    @property
    def source(self) -> str:
        """The digest's first digits; a digest of bytes, which cannot be compared with one of meaning, says so."""
        return f"{OTHER_CODE} {self.digest[:8]}" if self.digest and self.digest_of == "bytes" else self.digest[:8]


class Environment(Stored):
    """What a job ran on and with."""

    genbench: str
    plugin: PluginStamp
    torch: str
    python: str
    device: str
    threads: int
    processes: int = 1
    executor: str = "local"
    precision: str
    platform: str = ""
    packages: dict[str, str] = {}
    git_commit: str | None = None


class CurvePoint(Stored):
    """The model when `share` of its budget was spent: the cost until then, and how its samples scored.

    If there are no measurements, `status` and `note` say why.
    """

    share: FiniteFloat
    seconds: FiniteFloat | None = None
    device_seconds: FiniteFloat | None = None
    images: int | None = None
    steps: int | None = None
    flops: FiniteFloat | None = None
    measurements: list[Measurement] = []
    status: ValueStatus = "ok"
    note: str = ""

    @model_validator(mode="after")
    def measured_or_reason(self) -> CurvePoint:
        if bool(self.measurements) != (self.status == "ok") or not (self.measurements or self.note):
            raise ValueError("a point of a curve has measurements, or a status and a note")
        return self


class Failure(Stored):
    """Why a job has no result: the exception, the hook and plugin that raised it, and the training step."""

    type: str
    message: str
    hook: str = ""
    step: int | None = None
    plugin: str = ""
    traceback: str = ""


class Record(Stored):
    """Everything about one job: model, images, machine, cost, and what was measured under which protocol.

    `extractors` are those that scored the samples, each with its version's stamp, and `measurers` the plugins that
    measured besides the core, each with the digest of its source; `files` has the SHA-256 of each other file of the
    run. `warnings` say that its samples are copies, or show signs of a collapse, or that its machine was not its own,
    one sentence each. `rulers` say, by extractor, which metrics may rank; only the row `real` keeps their rungs.
    `seen_extractors` are those whose networks its training has seen, in which nothing of it is measured.
    `capabilities` is what the model can do besides sampling, `command` the words that make its job again, `code` what
    is known of its source: not recorded by earlier versions, and rows without a model have none.
    """

    schema_version: int = SCHEMA
    status: RunStatus
    error: Failure | None = None
    job: JobStamp
    samples: SamplesStamp = SamplesStamp()
    artifacts: list[str] = []
    attempts: list[dict[str, Any]] = []
    external_data: list[str] = []
    seen_extractors: list[str] = Field([], exclude_if=lambda names: not names)
    tuning_trials: int | None = None
    capabilities: list[str] | None = None
    dataset: DatasetStamp
    environment: Environment
    command: tuple[str, ...] = Field((), exclude_if=lambda words: not words)
    code: CodeStamp | None = Field(None, exclude_if=lambda code: code is None)
    cost: Cost = Cost()
    measurements: list[Measurement] = []
    warnings: list[str] = []
    rulers: dict[str, Ruler] = {}
    curve: list[CurvePoint] = []
    protocols: Protocols = {}
    evaluation_key: str = ""
    extractors: dict[str, str] = {}
    measurers: dict[str, str] = {}
    files: dict[str, str] = {}
    folder: Path | None = None

    @field_validator("status")
    @classmethod
    def ended(cls, status: RunStatus, info: ValidationInfo) -> RunStatus:
        if info.context == READING and status in UNDER_WAY:
            raise ValueError("a run that has a record has ended")
        return status

    @property
    def under_way(self) -> bool:
        """Whether the run has not ended: it is running, or was interrupted. Such a record is made to show it."""
        return self.status in UNDER_WAY

    @property
    def draws_nothing(self) -> bool:
        """Whether the run finished and its model draws no samples, as a first stage alone."""
        return self.status == "complete" and not self.samples.count

    @property
    def place(self) -> str:
        """What distinguishes the record from all others that were read: two folders may hold runs of one job."""
        return str(self.folder or self.job.id)

    def to_json(self) -> str:
        """Strict JSON, indented: first the schema's version, last the digest of the text before it."""
        plain = {"schema": self.schema_version, **self.model_dump(mode="json", exclude={"folder", "schema_version"})}
        text = json.dumps(plain, indent=1, allow_nan=False).removesuffix("\n}")
        return f"{text}{SEAL}{digest(text.encode())}{END}"

    @classmethod
    def from_json(cls, text: str, path: Path) -> Record:
        """The record in `text`, read from `path`. Raises CorruptData naming the file and the first bad key."""
        try:
            plain = json.loads(text, parse_constant=refuse_constant)
            if not isinstance(plain, dict):
                raise ValueError("the top level is not an object")
            version = plain.pop("schema", None)
            plain.pop("digest", None)
            if not isinstance(version, int) or version > SCHEMA:
                raise CorruptData(
                    f"{path}: schema {version!r}, but this genbench reads up to {SCHEMA}", "upgrade genbench"
                )
            return cls.model_validate({"schema_version": version, "folder": path.parent, **plain}, context=READING)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            fault = "missing" if first["type"] == "missing" else first["msg"]
            raise CorruptData(f"{path}: {key}: {fault}", removal(path, then=JOB_AGAIN)) from error
        except RecursionError:
            raise CorruptData(f"{path}: not a record: nested too deeply", removal(path, then=JOB_AGAIN)) from None
        except (ValueError, TypeError) as error:
            raise CorruptData(f"{path}: not a record: {error}", removal(path, then=JOB_AGAIN)) from error


def is_sealed(text: bytes) -> bool:
    """Whether a record's digest, of its text or of its content, matches; also true if it has none."""
    body, _, said = text.rpartition(SEAL.encode())
    if said == (digest(body) + END).encode():
        return True
    plain = json.loads(text)
    return plain.pop("digest", None) in (None, settings_digest(plain))
