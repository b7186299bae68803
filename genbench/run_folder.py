"""A run folder from one attempt to the next: the record, and the one that was taken back while its job runs again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genbench import store
from genbench.faults import fault
from genbench.planning.plan import Job
from genbench.record_files import read_record
from genbench.records import Record

EARLIER = "earlier.json"
"""The record of before, while what it vouches for is being changed."""


def begin(job: Job) -> None:
    """Take back a complete record, since what it vouches for may change from now on, and write the job."""
    file = job.folder / "record.json"
    if file.exists() and read_record(file).status == "complete":
        file.replace(job.folder / EARLIER)
    store.write_json(job.folder / "job.json", job.model_dump(mode="json"))
    fault("job.begun")


def end(job: Job, record: Record) -> None:
    """Write the record, last of all; a complete one that was taken back stays beside one that is not complete."""
    fault("record.begin")
    store.write_text(job.folder / "record.json", record.to_json())
    if record.status == "complete":
        (job.folder / EARLIER).unlink(missing_ok=True)
        store.remove(job.folder / store.MEASURED)
    fault("record.end")


def last_record(folder: Path) -> Record | None:
    """The record of a run folder, or the one that was taken back when its job was begun again."""
    for name in ("record.json", EARLIER):
        if (folder / name).exists():
            return read_record(folder / name)
    return None


def earlier_attempts(folder: Path) -> list[dict[str, Any]]:
    """How earlier tries at this job ended."""
    old = last_record(folder)
    if old is None or old.status == "complete":
        return old.attempts if old else []
    return [*old.attempts, {"status": old.status, "error": old.error.message if old.error else ""}]


def previous_record(job: Job) -> Record | None:
    """The finished record of the job whose samples, by their key, are those that the job asks for."""
    for name in ("record.json", EARLIER):
        if (job.folder / name).exists():
            old = read_record(job.folder / name)
            if old.status == "complete" and old.samples.key == job.samples_key:
                return old
    return None
