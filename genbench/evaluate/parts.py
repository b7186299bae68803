"""The parts of a running evaluation, one file each in the run folder, so that a crash costs only the current part.

They are removed when the record is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genbench.records.record import Measurement
from genbench.support import clock, digests, store
from genbench.support.errors import CorruptData
from genbench.support.faults import fault
from genbench.support.sealed import read_sealed, write_sealed

if TYPE_CHECKING:
    from genbench.records.job import Job

_spared = 0.0
log = logging.getLogger("genbench")


def once(job: Job, behind: dict[str, Any], measure: Callable[[], list[Measurement]]) -> list[Measurement]:
    """The result of `measure()`, now or in an earlier attempt; `behind` is everything that it depends on."""
    global _spared
    key = digests.settings_digest({"evaluation": job.evaluation_key, "seed": job.seed, **behind})
    file = job.folder / store.MEASURED / f"{key[:32]}.json"
    if plain := stored(file):
        _spared += plain["seconds"]
        return [Measurement(**m, settings=plain["protocols"][m["protocol"]]) for m in plain["measurements"]]
    began, before = clock.now(), _spared
    found = measure()
    if job.folder.exists():
        seconds = clock.now() - began + _spared - before
        plain = {
            "seconds": seconds, "protocols": {m.protocol: m.settings for m in found},
            "measurements": [m.model_dump(mode="json") for m in found],
        }  # fmt: skip
        write_sealed(file, plain)
    fault("evaluate.measured")
    return found


@contextmanager
def booked_on_none() -> Iterator[None]:
    """The time of this block is no part of what evaluating the job cost: its result serves all jobs alike."""
    global _spared
    began = clock.now()
    try:
        yield
    finally:
        _spared -= clock.now() - began


def stored(file: Path) -> dict[str, Any] | None:
    """What `write_sealed` wrote there; None if there is nothing, or what there is has changed: it is measured again."""
    if not file.exists():
        return None
    try:
        return read_sealed(file, "")
    except CorruptData as error:
        log.warning("%s; measuring again", error.message)
        return None


def spared_seconds() -> float:
    """What to add to the time since the last call: that of parts reused from earlier attempts, less what is booked on
    no job.
    """
    global _spared
    seconds, _spared = _spared, 0.0
    return seconds
