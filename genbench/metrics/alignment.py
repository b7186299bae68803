"""Whether samples are what their conditions say, by what can read them: digits, scenes of them, and maps of regions.

Measured by `genbench.evaluate.judges`. What is read off digits and scenes is a mean over conditions of the mean over
the samples of one; what is read off maps is counted over all their pixels together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from genbench.metrics.classes import total_variation
from genbench.metrics.metric import Metric
from genbench.metrics.value import Value, mean_of, not_enough, one_of_each, summed, with_error

ALIGNED, RIGHT, NEW, COUNT, DIGIT, COLOUR, PLACE, BINDING, TAKEN = (
    "aligned_share", "all_right", "all_right_new", "count_right", "digit_right", "colour_right", "place_right",
    "binding", "free_place_tv",
)  # fmt: skip
MIOU, PIXELS, KEPT = "mean_iou", "pixel_accuracy", "class_kept"
DRAWS = 1000


def share_of(marks: np.ndarray, places: np.ndarray | None = None) -> Value:
    """The mean over conditions of marks (M, K), of which those that are NaN are not given.

    Here and below `places` (M,) tell which conditions are the same: errors are over different ones. None: all differ.
    """
    given = ~np.isnan(marks).all(1)
    if not given.any():
        return Value(None, "no condition asks for it", status="not_applicable")
    value = mean_of(one_of_each(np.nanmean(marks[given], axis=1), None if places is None else places[given]))
    assert value.value is not None
    return replace(value, interval=value.interval and (max(0.0, value.interval[0]), min(1.0, value.interval[1])))


def agreement(confusion: np.ndarray, places: np.ndarray | None = None) -> dict[str, Value]:
    """The mean IoU, and the share of pixels that have their class, by how many of a class were read as which one.

    Those are counts (M, K, K) over the pixels of each of M conditions. Errors are of a jackknife over conditions.
    """
    confusion, whole = summed(confusion, places), confusion.sum(0)
    if not whole.any():
        none = Value(None, "no class is given", status="not_applicable")
        return {MIOU: none, PIXELS: none}
    return {name: _over_conditions(measure, confusion, whole) for name, measure in COUNTED.items()}


def _over_conditions(measure: Callable[[np.ndarray], np.ndarray], confusion: np.ndarray, whole: np.ndarray) -> Value:
    """A statistic of all counts, with the error by leaving out those of each condition in turn."""
    value, count = Value(float(measure(whole))), len(confusion)
    others = whole - confusion
    if count < 2 or not others.any((1, 2)).all():
        return value
    return with_error(value, math.sqrt((count - 1) * float(measure(others).var())), count - 1, low=0.0, high=1.0)


def mean_iou(confusion: np.ndarray) -> np.ndarray:
    """The mean over classes of right pixels / (given or read as such), of counts (..., K, K), given by read.

    Classes that are nowhere given are left out; what is read as one of them is an error of those that are.
    """
    right, given = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1)
    either = given + confusion.sum(-2) - right
    shares = np.where(given > 0, right / np.maximum(either, 1), 0.0)
    found: np.ndarray = shares.sum(-1) / (given > 0).sum(-1)
    return found


def pixel_accuracy(confusion: np.ndarray) -> np.ndarray:
    """The share of pixels that are read as what is given, of counts (..., K, K)."""
    found: np.ndarray = np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum((-2, -1))
    return found


COUNTED = {MIOU: mean_iou, PIXELS: pixel_accuracy}


def normalised(value: Value, floor: float, ceiling: float) -> Value:
    """Where a value stands between that of images of other conditions, 0, and that of real images, 1.

    The error is the value's: the ends are the same for all rows of a table, and their errors are in no difference.
    """
    if value.value is None or ceiling <= floor:
        return Value(None, value.note or "real images are not told from others", status="not_applicable")

    def place(share: float) -> float:
        return (share - floor) / (ceiling - floor)

    found = Value(place(value.value), parts={"floor": floor, "ceiling": ceiling})
    if value.stderr is None or value.interval is None:
        return found
    low, high = value.interval
    return replace(found, stderr=value.stderr / (ceiling - floor), interval=(place(low), place(high)))


def uneven(taken: np.ndarray, choices: int, places: np.ndarray | None = None, seed: int = 2020) -> Value:
    """The total variation from uniform of which of so many choices were taken (M, K), NaN where none was; 0 is best.

    The error is bootstrapped over conditions. Few of them are never quite even: `expected` is what as many have whose
    choices are drawn uniformly, one each.
    """
    counts = summed((taken[:, :, None] == np.arange(choices)).sum(1), places)
    counts = counts[counts.any(1)]
    if len(counts) < 2:
        return not_enough("fewer than two conditions whose place is free have a sample that is right")
    uniform, random = np.full(choices, 1 / choices), np.random.default_rng(seed)
    drawn = random.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=DRAWS) @ counts
    value = Value(float(total_variation(counts.sum(0) / counts.sum(), uniform)))
    error = float(total_variation(drawn / drawn.sum(1, keepdims=True), uniform).std())
    even = random.multinomial(len(counts), uniform, size=DRAWS) / len(counts)
    return with_error(value, error, low=0.0, high=1.0).with_parts(expected=float(total_variation(even, uniform).mean()))


METRICS = (
    Metric(ALIGNED, "aligned", "higher", "share", "test", "answers",
           places={"headline": 2, "condition": 10, "full": 67}),
    Metric(RIGHT, "all right", "higher", "share", "test", "answers", ranked=False,
           places={"condition": 11, "full": 68}),
    Metric(NEW, "all right, new pairs", "higher", "share", "test", "answers", ranked=False,
           places={"condition": 12, "full": 69}),
    Metric(COUNT, "count", "higher", "share", "test", "answers", ranked=False, places={"condition": 13, "full": 70}),
    Metric(DIGIT, "digit", "higher", "share", "test", "answers", ranked=False, places={"condition": 14, "full": 71}),
    Metric(COLOUR, "colour", "higher", "share", "test", "answers", ranked=False, places={"condition": 15, "full": 72}),
    Metric(PLACE, "place", "higher", "share", "test", "answers", ranked=False, places={"condition": 16, "full": 73}),
    Metric(BINDING, "binding", "higher", "share", "test", "answers", ranked=False,
           places={"condition": 17, "full": 74}),
    Metric(TAKEN, "free place TV", style="share", split="test", family="answers", ranked=False,
           places={"condition": 18, "full": 75}),
    Metric(MIOU, "mIoU", "higher", "share", "test", "answers", ranked=False, places={"condition": 19, "full": 76}),
    Metric(PIXELS, "pixels right", "higher", "share", "test", "answers", ranked=False,
           places={"condition": 20, "full": 77}),
    Metric(KEPT, "class kept", "higher", "share", "test", "answers", ranked=False,
           places={"condition": 21, "full": 78}),
)  # fmt: skip
