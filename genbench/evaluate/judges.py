"""Whether samples are what their conditions say, for datasets whose conditions can be read off an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict

import numpy as np

from genbench.condition import EACH, Kind
from genbench.data.dataset import Dataset, Part
from genbench.evaluate import scenes
from genbench.evaluate.parts import once
from genbench.metrics import metric_named
from genbench.metrics.alignment import ALIGNED, RIGHT, TAKEN, normalised, share_of, uneven
from genbench.metrics.value import Value
from genbench.records.job import Job
from genbench.records.protocol import versions
from genbench.records.record import Measurement
from genbench.records.samples import Samples
from genbench.support.digests import array_digest

Judge = Callable[[np.ndarray, Part, np.ndarray], Mapping[str, np.ndarray]]
"""Samples (N, C, H, W), the test split and the places (N,) of the images whose conditions they have -> marks (N,)."""
JUDGES: dict[str, tuple[Kind, Judge]] = {"scenes": ("text", scenes.marks)}
"""The kind of condition that each judges, by the name that a source gives (`Source.judge`)."""


def alignment_measurements(job: Job, samples: Samples, data: Dataset) -> list[Measurement]:
    """The marks of samples under conditions that can be judged; none for others."""
    kind, judge = JUDGES.get(data.judge, (None, None))
    if judge is None or job.kind != kind or samples.conditions is None or len(samples) < EACH:
        return []
    settings = {
        "family": "answers", "metric": "alignment", "judge": data.judge, "dataset": data.digest, "split": "test",
        "samples": len(samples), "each": EACH, "versions": versions(),
    }  # fmt: skip

    def measured() -> list[Measurement]:
        return [
            Measurement(
                metric=name, better=metric_named(name).better, count=len(samples), settings=settings, **asdict(value)
            )
            for name, value in values_of(samples, data.test, judge).items()
        ]

    content = {"samples": array_digest(samples.images), "conditions": array_digest(samples.conditions)}
    return once(job, {**content, "protocol": settings}, measured)


def values_of(samples: Samples, test: Part, judge: Judge) -> dict[str, Value]:
    """The metrics of samples that were drawn EACH in a row; a last condition with fewer is left out.

    Each has the shares of real images under their own conditions, `ceiling`, and under those of others, `floor`.
    """
    assert samples.conditions is not None
    places = samples.conditions[: len(samples) // EACH * EACH]
    originals = test.images[places]
    ends = {"floor": judge(np.roll(originals, EACH, axis=0), test, places), "ceiling": judge(originals, test, places)}
    values = {}
    for name, marks in judge(samples.images[: len(places)], test, places).items():
        if name == TAKEN:
            values[name] = uneven(marks, EACH)
            continue
        values[name] = share_of(marks.reshape(-1, EACH))
        known = {end: share_of(found[name].reshape(-1, EACH)).value for end, found in ends.items()}
        values[name] = values[name].with_parts(**{end: value for end, value in known.items() if value is not None})
    right = values[RIGHT]
    return {ALIGNED: normalised(right, right.parts["floor"], right.parts["ceiling"]), **values}
