"""What samples of a condition that has places, such as a map or a hole, have to do with the image it was made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from genbench.condition import EACH, PLACED, Kind
from genbench.data.condition_plan import ConditionPlan
from genbench.data.dataset import Dataset, Part
from genbench.data.observations import reduced
from genbench.data.posterior import hidden_of
from genbench.evaluate.parts import once
from genbench.metrics import metric_named
from genbench.metrics.answers import CONSISTENCY, ENERGY, HOLE_PSNR, KNOWN, PSNR, SEAM, Answers, seam
from genbench.metrics.value import Value
from genbench.records.job import Job
from genbench.records.protocol import versions
from genbench.records.record import Measurement
from genbench.records.samples import Samples
from genbench.support.digests import array_digest
from genbench.support.seeds import derive_seed

VERSION = 3
"""Raised when what is measured of answers changes: numbers of different versions are not compared."""


def answer_measurements(job: Job, samples: Samples, data: Dataset) -> list[Measurement]:
    """Distances from the originals and between samples; none for a job of another kind."""
    kind = job.kind
    if kind is None or kind not in PLACED or samples.conditions is None or len(samples) < EACH:
        return []
    settings = {
        "family": "answers", "metric": "answers", "dataset": data.digest, "split": "test", "samples": len(samples),
        "each": EACH, "condition": asdict(job.condition) if job.condition else None, "version": VERSION,
        "versions": versions(),
    }  # fmt: skip

    return of_samples(job, samples, settings, lambda: values_of(samples, data, kind, job.evaluation.seed))


def of_samples(
    job: Job, samples: Samples, settings: dict[str, Any], measure: Callable[[], Mapping[str, Value]]
) -> list[Measurement]:  # fmt: skip
    """The values that `measure` gives by metric of samples and their conditions, measured once (`parts.once`)."""

    def measured() -> list[Measurement]:
        return [
            Measurement(
                metric=name,
                better=metric_named(name).better,
                count=len(samples) // EACH * EACH,
                settings=settings,
                **asdict(value),
            )
            for name, value in measure().items()
        ]

    assert samples.conditions is not None
    content = {"samples": array_digest(samples.images), "conditions": array_digest(samples.conditions)}
    return once(job, {**content, "protocol": settings}, measured)


def values_of(samples: Samples, data: Dataset, kind: Kind, seed: int) -> Mapping[str, Value]:
    """The metrics of samples that were drawn EACH in a row; a last condition with fewer is left out."""
    assert samples.conditions is not None
    whole, test = len(samples) // EACH * EACH, data.test
    places = samples.conditions[:whole:EACH]
    originals = test.images[places].reshape(len(places), -1)
    hidden = hidden_of(test, kind, places)
    answers = Answers(samples.images[:whole].reshape(len(places), EACH, -1), originals, hidden, places)
    psnr = HOLE_PSNR if kind == "hole" else PSNR
    spread = answers.spread(known_spread(data, kind, places, seed))
    found = {ENERGY: answers.energy_score(), psnr: answers.psnr(), **spread}
    if kind == "hole":
        shape = (len(places), EACH, *samples.images.shape[1:])
        edges = seam(
            samples.images[:whole].reshape(shape), test.images[places], hidden.reshape(len(places), *shape[2:]), places
        )
        return {**found, KNOWN: answers.known_pixel_error(), SEAM: edges}
    if kind == "map":
        return found
    given, shape = test.conditions["image"]["image"][places], test.images.shape[1:]

    def small(images: np.ndarray) -> np.ndarray:
        """Images (M, D) made small as the conditions were, (M, S)."""
        means: np.ndarray = np.rint(reduced(images.reshape(-1, *shape), shape[1] // given.shape[2]))
        return means.reshape(len(images), -1)

    return {**found, CONSISTENCY: answers.consistency(small, given.reshape(len(given), -1))}


def of_others(data: Dataset, kind: Kind, places: np.ndarray) -> np.ndarray:
    """For samples of test conditions (N,), EACH in a row, the places of test images of others: EACH different ones.

    They are those that follow in the order in which conditions are used.
    """
    order = ConditionPlan.of(data, kind, EACH * len(data.test)).numbers
    assert order is not None
    order = order[::EACH]
    followers = 1 + np.arange(len(places)) % min(EACH, max(1, len(order) - 1))
    found: np.ndarray = order[(np.argsort(order)[places] + followers) % len(order)]
    return found


def shown_images(part: Part, kind: Kind, places: np.ndarray) -> np.ndarray:
    """What the conditions show, as levels (M, C, H, W): holes are gray, small images and maps are enlarged."""
    images = part.images[places]
    if kind == "map":
        return coloured(np.asarray(part.conditions["map"]["map"][places]), part.sizes["map"], images.shape[1:])
    if kind == "hole":
        return np.where(part.conditions["hole"]["hole"][places], np.uint8(128), images)
    small = part.conditions["image"]["image"][places]
    factor = images.shape[2] // small.shape[2]
    enlarged: np.ndarray = small.repeat(factor, axis=2).repeat(factor, axis=3)
    return enlarged


def coloured(maps: np.ndarray, size: int, shape: tuple[int, ...]) -> np.ndarray:
    """Maps (M, h, w) of `size` classes as images (M, C, H, W): a colour or level a class, black for the unknown."""
    turns = np.arange(size) / size
    if shape[0] == 1:
        palette = (64 + 191 * turns)[:, None]
    else:
        palette = 127.5 * (1 + np.cos(2 * np.pi * (turns[:, None] - np.arange(3) / 3)))
    palette = np.concatenate([palette, np.zeros((1, shape[0]))]).astype(np.uint8)
    levels = np.moveaxis(palette[maps], 3, 1)
    enlarged: np.ndarray = levels.repeat(shape[1] // maps.shape[1], axis=2).repeat(shape[2] // maps.shape[2], axis=3)
    return enlarged


def posterior_draws(data: Dataset, kind: Kind, places: np.ndarray, seed: int, mean: bool = False) -> np.ndarray:
    """Levels (N, C, H, W) from the exact distribution of images given these test conditions, or its means."""
    law = data.law_given(kind)
    assert law is not None
    random = None if mean else np.random.default_rng(derive_seed(seed, "posterior"))
    found = np.rint(law.answers(kind, data.test, places, random)).clip(0, 255).astype(np.uint8)
    originals = data.test.images[places].reshape(len(places), -1)
    levels: np.ndarray = np.where(hidden_of(data.test, kind, places), found, originals)
    return levels.reshape(len(places), *data.shape)


DRAWS = 8
"""Draws of the exact distribution, of each condition, that the known spread is measured on."""


def known_spread(data: Dataset, kind: Kind, places: np.ndarray, seed: int) -> np.ndarray | None:
    """The mean square distance, levels, of two images from the exact distribution given each of some test conditions.

    (M,); None if that distribution is unknown. It is twice the variance of what is hidden.
    """
    if data.law_given(kind) is None:
        return None
    hidden = hidden_of(data.test, kind, places)
    total, squares = np.zeros(hidden.shape), np.zeros(hidden.shape)
    for draw in range(DRAWS):
        levels = posterior_draws(data, kind, places, derive_seed(seed, "spread", draw)).reshape(hidden.shape)
        total += levels
        squares += np.square(levels, dtype=np.float64)
    variance = (squares - np.square(total) / DRAWS) / (DRAWS - 1)
    found: np.ndarray = 2 * (variance * hidden).sum(1) / hidden.sum(1)
    return found
