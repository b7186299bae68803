"""Scoring a finished run with further extractors, from its stored samples and without its model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genbench.evaluate.extractors import extractor_stamps
from genbench.evaluate.parts import spared_seconds
from genbench.records.cost import EvaluateCost
from genbench.records.job import Job, Runtime, read_job
from genbench.records.record import NO_SAMPLES, REFERENCES, CurvePoint, Measurement, Protocols, Record
from genbench.records.record_files import read_record
from genbench.records.samples import recorded_samples
from genbench.records.slots import slot_of
from genbench.support import clock, store
from genbench.support.errors import BadInput
from genbench.support.faults import fault
from genbench.support.lock import locked

if TYPE_CHECKING:
    from genbench.data.dataset import Dataset
    from genbench.extension.registry import Plugins
    from genbench.model import Model
    from genbench.records.samples import Samples


@dataclass(frozen=True)
class Finished:
    """A finished run on disk."""

    folder: Path
    record: Record
    job: Job


def missing_extractors(job: Job, record: Record) -> list[str] | None:
    """The job's extractors that its finished record lacks or used in another version.

    None if other settings differ, or a measuring plugin was missing or had another version.
    """
    measured = job.measurers.items() <= record.measurers.items()
    if not measured or record.evaluation_key != job.evaluation_key:
        return None
    stamps = job.extractor_stamps
    return [name for name in job.evaluation.extractors if record.extractors.get(name) != stamps.get(name)]


def in_features(
    names: Iterable[str], job: Job, samples: Samples | None, data: Dataset, plugins: Plugins, model: Model | None = None
) -> list[Measurement]:  # fmt: skip
    """The fidelity of a job's samples, if any, and of a model's reconstructions, with the named extractors."""
    from genbench.evaluate.reconstruction import FirstStage, rfid_measurements
    from genbench.evaluate.samples import sample_measurements
    from genbench.running.references import reference_measurements

    job = with_extractors(job, names)
    measure = reference_measurements if job.is_reference else sample_measurements
    found = [] if samples is None else measure(job, samples, data, plugins)
    return found if model is None else [*found, *rfid_measurements(FirstStage(job, model, data), plugins)]


def with_extractors(job: Job, names: Iterable[str]) -> Job:
    """The job as if it had asked for these extractors."""
    return job.model_copy(update={"evaluation": job.evaluation.model_copy(update={"extractors": tuple(names)})})


def kept(old: Iterable[Measurement], new: Iterable[Measurement], protocols: Protocols) -> list[Measurement]:
    """The earlier measurements, except for a metric and extractor that were measured again."""
    anew = {slot_of(m, protocols) for m in new}
    return [m for m in old if slot_of(m, protocols) not in anew]


def kept_on_curve(old: Record, points: Iterable[CurvePoint], protocols: Protocols) -> Iterator[CurvePoint]:
    """The points, each with its earlier measurements that were not repeated."""
    earlier = {point.share: point.measurements for point in old.curve}
    for point in points:
        new = point.measurements
        before = kept(earlier.get(point.share, ()), new, protocols) if new else []
        yield point.model_copy(update={"measurements": before + new})


def open_finished(folder: Path) -> Finished:
    """A finished run. Raises BadInput if it did not finish, CorruptData if its job is unreadable."""
    file = folder / "record.json"
    record = read_record(file)
    if record.status != "complete":
        raise BadInput(
            f"{folder}: run status is {record.status}, so there are no samples to score", "run it again first"
        )
    if record.draws_nothing:
        raise BadInput(f"{folder}: {NO_SAMPLES}, so there is nothing to score", "run it again with --extractor NAME")
    return Finished(folder, record, read_job(folder))


def with_references(runs: Iterable[Finished]) -> list[Finished]:
    """The runs, and the finished reference rows beside them with the same dataset and number of samples."""
    found = {run.folder.resolve(): run for run in runs}
    wanted = {(run.folder.resolve().parent, images_and_count(run.record)) for run in found.values()}
    for parent in {run.folder.parent for run in found.values()}:
        for file in sorted(parent.glob("*/record.json")):
            folder, record = file.parent, read_record(file)
            reference = record.job.model in REFERENCES and record.status == "complete"
            if reference and (parent.resolve(), images_and_count(record)) in wanted:
                found.setdefault(folder.resolve(), open_finished(folder))
    return list(found.values())


def images_and_count(record: Record) -> tuple[str, int]:
    """What two rows must share for one to be the other's floor."""
    return record.dataset.digest, record.samples.count


def score_again(run: Finished, names: list[str], data: Dataset, plugins: Plugins, runtime: Runtime) -> Record:
    """Score a finished run with the named extractors, and add the results to its record.

    Raises CorruptData if samples are missing or changed, Busy if another process is using the run.
    """
    from genbench.evaluate.samples import rulers

    if data.digest != run.record.dataset.digest:
        raise BadInput(
            f"{run.folder}: made on {data.name} with digest {run.record.dataset.digest[:12]}, here it has "
            f"{data.digest[:12]}",
            "pass the same data with --data-root or --datasets",
        )
    with locked(run.folder):
        record = open_finished(run.folder).record
        samples = recorded_samples(run.folder, record)
        store.sweep(run.folder)
        began = clock.now()
        spared_seconds()
        job = run.job.model_copy(update={"runtime": runtime})
        new = in_features(names, job, samples, data, plugins)
        stamps = extractor_stamps(names, plugins.registered("register_extractors"))
        record = extended(record, new, stamps, clock.now() - began + spared_seconds())
        record = record.model_copy(
            update={"rulers": {**record.rulers, **rulers(with_extractors(job, names), data, plugins)}}
        )
        fault("rescore.measured")
        store.write_text(run.folder / "record.json", record.to_json())
        store.remove(run.folder / store.MEASURED)
    return record


def extended(record: Record, new: list[Measurement], stamps: dict[str, str], seconds: float) -> Record:
    """The record with further measurements of the stamped extractors; those of the same protocol are replaced."""
    replaced = {(m.metric, m.protocol) for m in new}
    old = [m for m in record.measurements if (m.metric, m.protocol) not in replaced]
    evaluate = EvaluateCost.after(record.cost.evaluate, seconds)
    changes: dict[str, Any] = {
        "measurements": [*old, *new],
        "protocols": {**record.protocols, **{m.protocol: m.settings for m in new}},
        "extractors": {**record.extractors, **stamps},
        "cost": record.cost.model_copy(update={"evaluate": evaluate}),
    }
    return record.model_copy(update=changes)
