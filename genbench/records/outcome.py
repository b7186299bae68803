"""What is known about a job when it ends, and the record made from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from genbench.condition import EACH, OPEN
from genbench.records.code import CodeStamp
from genbench.records.cost import Cost, EvaluateCost, SampleCost, TrainCost
from genbench.records.job import Job
from genbench.records.record import (
    CurvePoint,
    DatasetStamp,
    Environment,
    Failure,
    Measurement,
    Protocols,
    Record,
    RunStatus,
    SamplesStamp,
)
from genbench.records.ruler import Ruler
from genbench.records.run_folder import file_digests
from genbench.records.samples import Samples

ARTIFACTS = ("bound.json", "conditions.npy", "labels.npy", "pictures.json", "progress.jsonl", "samples.npy")


@dataclass
class Outcome:
    """What is known about a job: everything after a complete run, nothing after the death of its process.

    Each step of a run adds its part. `protocols` are the settings of the measurements, including those of the curve's
    points. `extractors` and `measurers` are those of an earlier evaluation whose measurements were kept.
    """

    parameters: int | None = None
    parameters_by_phase: dict[str, int] = field(default_factory=dict)
    capabilities: list[str] | None = None
    code: CodeStamp | None = None
    external_data: tuple[str, ...] = ()
    seen_extractors: tuple[str, ...] = ()
    train: TrainCost | None = None
    sample: SampleCost | None = None
    evaluate: EvaluateCost | None = None
    samples: Samples | None = None
    measurements: list[Measurement] = field(default_factory=list)
    protocols: Protocols = field(default_factory=dict)
    extractors: dict[str, str] = field(default_factory=dict)
    measurers: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    rulers: dict[str, Ruler] = field(default_factory=dict)
    curve: list[CurvePoint] = field(default_factory=list)

    def used_protocols(self) -> Protocols:
        """The settings of each measurement, by fingerprint."""
        measured = [*self.measurements, *(m for point in self.curve for m in point.measurements)]
        return {m.protocol: m.settings or self.protocols[m.protocol] for m in measured}


def make_record(
    job: Job,
    dataset: DatasetStamp,
    environment: Environment,
    known: Outcome,
    status: RunStatus,
    error: Failure | None = None,
    attempts: list[dict[str, Any]] | None = None,
) -> Record:
    """The record of a job with this outcome; digests are those of the files in its folder."""
    measured = bool(known.measurements)
    return Record(
        status=status,
        error=error,
        attempts=attempts or [],
        job=job.stamp(),
        samples=samples_stamp(job, known.samples),
        artifacts=[name for name in ARTIFACTS if (job.folder / name).exists()],
        external_data=[*job.external_data, *known.external_data],
        seen_extractors=list(known.seen_extractors),
        tuning_trials=job.tuning_trials,
        capabilities=known.capabilities,
        dataset=dataset,
        environment=environment,
        command=job.command,
        code=known.code,
        cost=Cost(
            parameters=known.parameters,
            parameters_by_phase=known.parameters_by_phase,
            train=known.train,
            sample=known.sample,
            evaluate=known.evaluate,
        ),
        measurements=known.measurements,
        warnings=known.warnings,
        rulers=known.rulers,
        curve=known.curve,
        protocols=known.used_protocols(),
        evaluation_key=job.evaluation_key,
        extractors={**known.extractors, **job.extractor_stamps} if measured else {},
        measurers={**known.measurers, **job.measurers} if measured else {},
        files=file_digests(job.folder),
    )


def samples_stamp(job: Job, samples: Samples | None) -> SamplesStamp:
    """What a record keeps of its samples."""
    stamp = SamplesStamp(key=job.samples_key, config=job.sample_config)
    if samples is None:
        return stamp
    stamp = stamp.model_copy(update={"count": len(samples), "clamped_share": samples.clamped_share})
    if samples.labels is not None:
        stamp.labels = "as given" if job.foreign else "training proportions"
    if samples.conditions is not None:
        each = f", {EACH} samples each" if job.kind in OPEN else ""
        stamp.conditions = f"test conditions in a seeded order{each}"
    return stamp
