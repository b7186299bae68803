"""A run folder from one attempt to the next: the record, and the one set aside while its job runs again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genbench.records.checkpoint import MANIFEST
from genbench.records.job import STAMP, Job
from genbench.records.point import LOG
from genbench.records.record import JOB_AGAIN, DatasetStamp, Record
from genbench.records.record_files import begun_again, read_record
from genbench.records.training_state import TrainingState
from genbench.support import digests, store
from genbench.support.denials import reading
from genbench.support.errors import CorruptData, removal
from genbench.support.faults import fault
from genbench.support.paths import below, inside
from genbench.support.sealed import check_digest, write_sealed
from genbench.support.store import read_lines

EARLIER, ATTEMPT = "earlier.json", "attempt.json"
"""The earlier record while the files it vouches for are being changed: a complete one, and one of a failed attempt."""


def begin(job: Job, dataset: DatasetStamp) -> None:
    """Set the record aside, since the files it vouches for may change from now on, and write the job and its images."""
    file = job.folder / "record.json"
    if file.exists():
        file.replace(job.folder / (EARLIER if read_record(file).status == "complete" else ATTEMPT))
    write_sealed(job.folder / "job.json", {**job.model_dump(mode="json"), STAMP: dataset.model_dump(mode="json")})
    fault("job.begun")


def end(job: Job, record: Record) -> None:
    """Write the record, last of all; a complete one that was set aside is kept if the new one is not complete."""
    fault("record.begin")
    store.write_text(job.folder / "record.json", record.to_json())
    (job.folder / ATTEMPT).unlink(missing_ok=True)
    if record.status == "complete":
        (job.folder / EARLIER).unlink(missing_ok=True)
        store.remove(job.folder / store.MEASURED)
    fault("record.end")


def last_record(folder: Path) -> Record | None:
    """The record of a run folder, or the one that was set aside when its job began again."""
    for name in ("record.json", ATTEMPT, EARLIER):
        if (folder / name).exists():
            return read_record(folder / name)
    return None


def earlier_attempts(folder: Path) -> list[dict[str, Any]]:
    """How earlier attempts at this job ended."""
    old = last_record(folder)
    if old is None or old.status == "complete":
        return old.attempts if old else []
    return [*old.attempts, {"status": old.status, "error": old.error.message if old.error else ""}]


def previous_record(job: Job) -> Record | None:
    """The job's finished record, if its samples have the key that the job asks for."""
    for name in ("record.json", EARLIER):
        if (job.folder / name).exists():
            old = read_record(job.folder / name)
            if old.status == "complete" and old.samples.key == job.samples_key:
                return old
    return None


UNLISTED = {"record.json", EARLIER, ATTEMPT, ".lock"}


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a run by its path in the folder, except files that a manifest lists."""
    found = {}
    for file in own_files(folder):
        with reading(file):
            found[file.relative_to(folder).as_posix()] = digests.file_digest(file)
    return found


def own_files(folder: Path) -> Iterator[Path]:
    """The files of a run, without the record itself, files that a manifest lists, and remains of an interruption.

    A folder with a manifest yields only the manifest, which vouches for the others.
    """
    for file in below(folder):
        relative = file.relative_to(folder)
        temporary = store.is_temporary(relative) or not {store.DRAWN, store.MEASURED}.isdisjoint(relative.parts)
        listed = file.name != MANIFEST and (file.parent / MANIFEST).exists()
        if file.is_file() and file.name not in UNLISTED and not temporary and not listed:
            yield file


def vouched(record: Record, name: str) -> Path | None:
    """A file of the run, which has the digest that its record gives; None if the run has no folder or no such file.

    Also None if the run's job has begun again since the record was read. Raises CorruptData if the file has changed.
    """
    if record.folder is None:
        return None
    file = inside(record.folder, name)
    with reading(file):
        if not file.is_file():
            return None
    if expected := record.files.get(name):
        try:
            check_digest(file, expected, "record.json", removal(record.folder / "record.json", file, then=JOB_AGAIN))
        except CorruptData:
            if begun_again(record):
                return None
            raise
    return file


def read_progress(record: Record) -> list[dict[str, Any]]:
    """The objects of a run's progress.jsonl, so far, in order; none if the run has no folder or no such file."""
    file = vouched(record, LOG)
    try:
        return read_lines(file) if file else []
    except CorruptData:
        if file and not file.exists():  # its job has just begun again
            return []
        raise


def check_log(folder: Path, state: TrainingState) -> None:
    """Raise CorruptData unless the learning curve is the one that a training had written; one that is gone may be."""
    file = folder / LOG
    if state.log and file.exists():
        check_digest(
            file, state.log, "its checkpoint", removal(file, then="then run again without the curve until here")
        )


TRACEBACK = "traceback.txt"
