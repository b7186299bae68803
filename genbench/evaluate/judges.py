"""Whether samples are what their conditions say, for datasets whose conditions can be read off an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from genbench.condition import EACH, SHOWING, Kind
from genbench.data.dataset import Dataset
from genbench.evaluate import digits, maps, scenes
from genbench.evaluate.answers import VERSION, of_others, of_samples
from genbench.metrics.alignment import ALIGNED, KEPT, MIOU, RIGHT, normalised
from genbench.metrics.value import Value
from genbench.records.job import Job
from genbench.records.protocol import versions
from genbench.records.record import Measurement
from genbench.records.samples import Samples


@dataclass(frozen=True)
class Judge:
    """What reads samples of conditions of these kinds; `leading` is the metric of which `aligned` is made.

    `values` are metrics of samples (N, C, H, W), EACH in a row, by the places (N,) of the test images whose conditions
    they have.
    """

    kinds: tuple[Kind, ...]
    leading: str
    values: Callable[[np.ndarray, Dataset, np.ndarray], dict[str, Value]]


JUDGES = {
    "digits": Judge(SHOWING, KEPT, digits.values),
    "scenes": Judge(("text",), RIGHT, scenes.values),
    "maps": Judge(("map",), MIOU, maps.values),
}
"""By the name that a source gives (`Source.judge`)."""


def alignment_measurements(job: Job, samples: Samples, data: Dataset) -> list[Measurement]:
    """How samples stand to conditions that can be judged; none for others."""
    judge, kind = JUDGES.get(data.judge), job.kind
    if judge is None or kind not in judge.kinds or samples.conditions is None or len(samples) < EACH:
        return []
    settings = {
        "family": "answers", "metric": "alignment", "judge": data.judge, "dataset": data.digest, "split": "test",
        "samples": len(samples), "each": EACH, "version": VERSION, "versions": versions(),
    }  # fmt: skip
    return of_samples(job, samples, settings, lambda: values_of(samples, data, kind, judge))


def values_of(samples: Samples, data: Dataset, kind: Kind, judge: Judge) -> dict[str, Value]:
    """The metrics of samples that were drawn EACH in a row; a last condition with fewer is left out.

    Each has the values of real images under their own conditions, `ceiling`, and under those of others, `floor`.
    """
    assert samples.conditions is not None
    places = samples.conditions[: len(samples) // EACH * EACH]
    ends = {
        "floor": judge.values(data.test.images[of_others(data, kind, places)], data, places),
        "ceiling": judge.values(data.test.images[places], data, places),
    }
    values = {
        name: value.with_parts(
            **{end: known for end, found in ends.items() if (known := found[name].value) is not None}
        )
        for name, value in judge.values(samples.images[: len(places)], data, places).items()
    }
    leading = values[judge.leading]
    aligned = normalised(leading, leading.parts.get("floor", 0.0), leading.parts.get("ceiling", 0.0))
    return {ALIGNED: aligned, **values}
