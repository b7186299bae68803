"""The reference rows of a task that shows a part of an image, or a small one: answers that need no model.

`original` is the image that a condition was made of, `shuffled` that of another condition, `neighbour` the training
images whose shown part is nearest, `mean` the mean of what is possible, `posterior` draws from the exact distribution.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from genbench.condition import EACH, Kind
from genbench.data.condition_plan import ConditionPlan
from genbench.data.dataset import Dataset
from genbench.evaluate.answers import hidden_of, posterior_draws
from genbench.records.job import Job
from genbench.records.samples import Samples
from genbench.support.seeds import derive_seed

NEAREST = 16
"""Training images whose mean is the answer `mean` where the distribution of images is unknown."""
Answer = Callable[[Dataset, Kind, np.ndarray, int], np.ndarray]
"""(data, kind, places of test images, seed) -> levels (N, C, H, W)."""


def answered(job: Job, data: Dataset) -> Samples:
    """The samples of a reference row that answers conditions."""
    plan = ConditionPlan.of(data, job.kind, job.samples)
    assert plan.numbers is not None and job.kind is not None
    return Samples(ANSWERS[job.model](data, job.kind, plan.numbers, job.seed), conditions=plan.numbers)


def answers_of(data: Dataset, kind: Kind) -> list[str]:
    """The names of the rows that a dataset can have."""
    return [name for name in ANSWERS if name != "posterior" or data.law is not None]


def original(data: Dataset, kind: Kind, places: np.ndarray, seed: int) -> np.ndarray:
    return np.asarray(data.test.images[places])


def shuffled(data: Dataset, kind: Kind, places: np.ndarray, seed: int) -> np.ndarray:
    """Of one condition after the other, a different one for each sample of a condition."""
    sample = np.arange(len(places))
    return np.asarray(data.test.images[places[(sample + EACH * (1 + sample % EACH)) % len(places)]])


def neighbour(data: Dataset, kind: Kind, places: np.ndarray, seed: int) -> np.ndarray:
    """The nearest for the first sample of a condition, the next nearest for the second, and so on."""
    found = nearest(data, kind, places, EACH)
    return np.asarray(data.train.images[found[np.arange(len(places)), np.arange(len(places)) % EACH]])


def mean(data: Dataset, kind: Kind, places: np.ndarray, seed: int) -> np.ndarray:
    if data.law is not None:
        return posterior_draws(data, kind, places, seed, mean=True)
    found = data.train.images[nearest(data, kind, places, NEAREST)].mean(1, dtype=np.float64)
    levels: np.ndarray = np.rint(found).astype(np.uint8)
    return levels


def posterior(data: Dataset, kind: Kind, places: np.ndarray, seed: int) -> np.ndarray:
    return posterior_draws(data, kind, places, derive_seed(seed, "posterior row"))


ANSWERS: dict[str, Answer] = {
    "original": original, "shuffled": shuffled, "neighbour": neighbour, "mean": mean, "posterior": posterior,
}  # fmt: skip


def nearest(data: Dataset, kind: Kind, places: np.ndarray, count: int) -> np.ndarray:
    """The training images (N, count) whose shown values are nearest to those of test images, the nearest first."""
    from scipy.spatial.distance import cdist

    found = np.empty((len(places), count), np.int64)
    for mine, here, there in shown(data, kind, places):
        found[mine] = np.argpartition(cdist(here, there, "sqeuclidean"), np.arange(count), axis=1)[:, :count]
    return found


def shown(data: Dataset, kind: Kind, places: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Groups of test images, what is shown of each, and the same of all training images."""
    test, train = data.test, data.train
    if kind != "hole":
        given, others = (part.conditions["image"]["image"].reshape(len(part), -1) for part in (test, train))
        return [(np.arange(len(places)), given[places].astype(np.float32), others.astype(np.float32))]
    hidden = hidden_of(test, kind, places)
    different, which = np.unique(hidden, axis=0, return_inverse=True)
    flat = test.images[places].reshape(len(places), -1).astype(np.float32)
    everything = train.images.reshape(len(train), -1)
    groups = []
    for index, hole in enumerate(different):
        mine = np.flatnonzero(which.ravel() == index)
        groups.append((mine, flat[mine][:, ~hole], everything[:, ~hole].astype(np.float32)))
    return groups
