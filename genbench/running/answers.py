"""The reference rows of a task that leaves an image open: answers to a condition that need no model.

`original` is the image that a condition was made of, `shuffled` that of another condition, `neighbour` the training
images whose conditions are nearest. Of conditions that have places, such as maps and holes, `mean` is the mean of what
is possible; where the distribution is known, `posterior` are draws from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from genbench.condition import EACH, PLACED, Kind
from genbench.data.condition_plan import ConditionPlan
from genbench.data.dataset import Dataset, Part
from genbench.data.posterior import hidden_of
from genbench.data.words import END
from genbench.evaluate.answers import of_others, posterior_draws
from genbench.records.job import Job
from genbench.records.samples import Samples
from genbench.support.seeds import derive_seed
from genbench.support.store import release

NEAREST = 16
"""Training images whose mean is the answer `mean` where the distribution of images is unknown."""
BLOCK, BLOCK_VALUES = 2048, 2**25
"""Training images compared at a time, or fewer of so many values."""
Answer = Callable[[Dataset, Kind, np.ndarray, int], np.ndarray]
"""(data, kind, places of test images, seed) -> levels (N, C, H, W)."""


def answered(job: Job, data: Dataset) -> Samples:
    """The samples of a reference row that answers conditions."""
    plan = ConditionPlan.of(data, job.kind, job.samples)
    assert plan.numbers is not None and job.kind is not None
    return Samples(ANSWERS[job.model](data, job.kind, plan.numbers, job.seed), conditions=plan.numbers)


def answers_of(data: Dataset, kind: Kind) -> list[str]:
    """The names of the rows that a dataset can have."""
    left_out = {"mean": kind not in PLACED, "posterior": data.law_given(kind) is None}
    return [name for name in ANSWERS if not left_out.get(name)]


def original(data: Dataset, kind: Kind, places: np.ndarray, seed: int) -> np.ndarray:
    return np.asarray(data.test.images[places])


def shuffled(data: Dataset, kind: Kind, places: np.ndarray, seed: int) -> np.ndarray:
    return np.asarray(data.test.images[of_others(data, kind, places)])


def neighbour(data: Dataset, kind: Kind, places: np.ndarray, seed: int) -> np.ndarray:
    """The nearest for the first sample of a condition, the next nearest for the second, and so on."""
    found = nearest(data, kind, places, EACH)
    return np.asarray(data.train.images[found[np.arange(len(places)), np.arange(len(places)) % EACH]])


def mean(data: Dataset, kind: Kind, places: np.ndarray, seed: int) -> np.ndarray:
    if data.law_given(kind) is not None:
        return posterior_draws(data, kind, places, seed, mean=True)
    means = [data.train.images[found].mean(0, dtype=np.float64) for found in nearest(data, kind, places, NEAREST)]
    levels: np.ndarray = np.rint(np.stack(means)).astype(np.uint8)
    return levels


def posterior(data: Dataset, kind: Kind, places: np.ndarray, seed: int) -> np.ndarray:
    return posterior_draws(data, kind, places, derive_seed(seed, "posterior row"))


ANSWERS: dict[str, Answer] = {
    "original": original, "shuffled": shuffled, "neighbour": neighbour, "mean": mean, "posterior": posterior,
}  # fmt: skip


def nearest(data: Dataset, kind: Kind, places: np.ndarray, count: int) -> np.ndarray:
    """The training images (N, count) whose conditions are nearest to those of test images, the nearest first."""
    different, back = np.unique(places, return_inverse=True)
    wanted = described(data.test, kind, different)
    weights = ~hidden_of(data.test, kind, different) if kind == "hole" else np.ones(wanted.shape, bool)
    best, found = np.empty((len(different), 0)), np.empty((len(different), 0), np.int64)
    size = max(1, min(BLOCK, BLOCK_VALUES // wanted.shape[1]))
    for start in range(0, len(data.train), size):
        block = np.arange(start, min(start + size, len(data.train)))
        values = described(data.train, kind, block)
        distance = weights @ np.square(values).T - 2 * (weights * wanted) @ values.T  # less what all have in common
        best = np.concatenate([best, distance], 1)
        found = np.concatenate([found, np.broadcast_to(block, distance.shape)], 1)
        order = np.argsort(best, axis=1, kind="stable")[:, :count]
        best, found = np.take_along_axis(best, order, 1), np.take_along_axis(found, order, 1)
        release(data.train.images)
    return found[back.ravel()]


def described(part: Part, kind: Kind, places: np.ndarray) -> np.ndarray:
    """Conditions as vectors (M, D) whose distances say how alike they are.

    They are the levels of images, or of the small ones that are shown; of a map which class each pixel is; of a text
    which words it has, and which follow one another.
    """
    if kind == "text":
        return followings(part.conditions["text"]["text"][places])
    if kind == "map":
        return classes_of(np.asarray(part.conditions["map"]["map"][places]), part.sizes["map"] + 1)
    images = part.images if kind == "hole" else part.conditions["image"]["image"]
    return np.asarray(images[places]).reshape(len(places), -1).astype(np.float64)


VALUES = 2**16
"""Numbers that say which class each pixel of a map is, at most: of larger maps, pixels of a grid."""


def classes_of(maps: np.ndarray, count: int) -> np.ndarray:
    """For each class of the pixels of maps (M, h, w) whether it is theirs, (M, D)."""
    step = math.ceil(math.sqrt(maps[0].size * count / VALUES))
    found: np.ndarray = np.eye(count)[maps[:, ::step, ::step]].reshape(len(maps), -1)
    return found


FEATURES = 4096
"""Counters that words and pairs of words share."""


def followings(text: np.ndarray) -> np.ndarray:
    """How often each word, and each pair of words in a row, is in a text (M, L), as unit vectors (M, FEATURES).

    Its end is half of the last pair; what stands behind it does not count.
    """
    pairs = (text[:, :-1].astype(np.int64) * 1_000_003 + text[:, 1:]) % (FEATURES // 2) + FEATURES // 2
    counted = np.zeros((len(text), FEATURES))
    for found, words in ((text % (FEATURES // 2), text), (pairs, text[:, :-1])):
        rows, places = np.nonzero(words != END)
        np.add.at(counted, (rows, found[rows, places]), 1.0)
    lengths = np.linalg.norm(counted, axis=1, keepdims=True)
    unit: np.ndarray = np.divide(counted, lengths, out=counted, where=lengths > 0)
    return unit
