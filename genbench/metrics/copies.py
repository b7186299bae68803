"""The shares of samples that copy training or test images; found in their pixels by `genbench.evaluate.copies`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from genbench.metrics.metric import Metric
from genbench.metrics.value import above_real, not_enough, of_real, percent, share

if TYPE_CHECKING:
    import numpy as np

    from genbench.metrics.value import Value
    from genbench.records.record import Measurement

COPIED, COPIED_TEST = "copied_share", "copied_test_share"
COPY = 0.3
"""The ratio of distances at most which an image is a copy. Of digits and photographs that are none, below 1 in 1,000
reach it; copies with noise of 8 grey levels have 0.1."""
LEAST = 20
"""Images that a split needs."""
WORDS = {COPIED: ("training", "test"), COPIED_TEST: ("test", "training")}
"""Which images are copied, and which real ones show how many look as if they were."""
WHOLE = 0.5
"""The exact share from which on samples are said to be the images."""


def copied_share(ratios: np.ndarray, exact: np.ndarray, real: np.ndarray) -> Value:
    """The share of samples whose `ratios` (N,), of the distance to the nearest image to that to others, are copies'.

    `exact` is bool (N,), and `real` has the ratios of real images that are neither. The parts of the value: `exact`,
    the share of exact copies; `real` and `real_high`, the share of copies among real images and the upper end of its
    95 % interval.
    """
    if len(real) < LEAST:
        return not_enough(f"{len(real)} real images to compare with, {LEAST} are needed")
    value = of_real(share(int((ratios <= COPY).sum()), len(ratios)), int((real <= COPY).sum()), len(real))
    return value.with_parts(exact=float(exact.mean()))


def copying(found: Iterable[Measurement]) -> str:
    """What a row copies, as a sentence without its full stop; "" if its shares are not above those of real images."""
    words = []
    for measured in _copied(found):
        own, other = WORDS[measured.metric]
        exact = measured.parts.get("exact", 0.0)
        if exact >= WHOLE:
            words.append(f"the samples are {own} images: {percent(exact)} of them pixel by pixel")
        else:
            words.append(
                f"{percent(measured.value or 0.0)} of the samples are copies of {own} images ({percent(exact)} exact); "
                f"of {other} images, {percent(measured.parts['real'])} are"
            )
    return "; ".join(words)


def copied_splits(found: Iterable[Measurement]) -> list[str]:
    """The splits whose images are copied more than real ones are: `train`, `test`."""
    return [metric.split for metric in METRICS for measured in _copied(found) if measured.metric == metric.name]


def _copied(found: Iterable[Measurement]) -> list[Measurement]:
    return [measured for measured in found if measured.metric in WORDS and above_real(measured)]


METRICS = (
    Metric(COPIED, "copies of training images", split="train", family="copying", ranked=False,
           places={"quality": 60, "full": 61, "record": 61}),
    Metric(COPIED_TEST, "copies of test images", split="test", family="copying", ranked=False,
           places={"quality": 61, "full": 62, "record": 62}),
)  # fmt: skip
