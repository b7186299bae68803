"""The parts of a running evaluation, one file each in the run folder, so that a crash costs only the current part.

They are removed when the record is written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from genbench.records.record import Measurement
from genbench.support import digests, store
from genbench.support.faults import fault

if TYPE_CHECKING:
    from genbench.records.job import Job

_spared = 0.0


def once(job: Job, behind: dict[str, Any], measure: Callable[[], list[Measurement]]) -> list[Measurement]:
    """The result of `measure()`, now or in an earlier attempt; `behind` is everything that it depends on."""
    global _spared
    key = digests.settings_digest({"evaluation": job.evaluation_key, "seed": job.seed, **behind})
    file = job.folder / store.MEASURED / f"{key[:32]}.json"
    if file.exists():
        plain = store.read_json(file)
        _spared += plain["seconds"]
        return [Measurement(**m, settings=plain["protocols"][m["protocol"]]) for m in plain["measurements"]]
    began, before = time.perf_counter(), _spared
    found = measure()
    if job.folder.exists():
        seconds = time.perf_counter() - began + _spared - before
        plain = {
            "seconds": seconds, "protocols": {m.protocol: m.settings for m in found},
            "measurements": [m.model_dump(mode="json") for m in found],
        }  # fmt: skip
        store.write_json(file, plain)
    fault("evaluate.measured")
    return found


@contextmanager
def booked_on_none() -> Iterator[None]:
    """The time of this block is no part of what evaluating the job cost: its result serves all jobs alike."""
    global _spared
    began = time.perf_counter()
    try:
        yield
    finally:
        _spared -= time.perf_counter() - began


def spared_seconds() -> float:
    """What to add to the time since the last call: that of parts reused from earlier attempts, less what is booked on
    no job.
    """
    global _spared
    seconds, _spared = _spared, 0.0
    return seconds
