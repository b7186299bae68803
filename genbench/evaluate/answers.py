"""What samples of a condition that has places, such as a map or a hole, have to do with the image it was made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from genbench.condition import EACH, PLACED, Kind
from genbench.data.dataset import Dataset, Part
from genbench.data.posterior import hidden_of, seen_small
from genbench.evaluate.parts import once
from genbench.metrics import metric_named
from genbench.metrics.answers import CONSISTENCY, ENERGY, HOLE_PSNR, KNOWN, PSNR, SEAM, Answers, consistency, seam
from genbench.metrics.value import Value
from genbench.records.job import Job
from genbench.records.protocol import versions
from genbench.records.record import Measurement
from genbench.records.samples import Samples
from genbench.support.digests import array_digest
from genbench.support.seeds import derive_seed


def answer_measurements(job: Job, samples: Samples, data: Dataset) -> list[Measurement]:
    """Distances from the originals and between samples; none for a job of another kind."""
    kind = job.kind
    if kind is None or kind not in PLACED or samples.conditions is None or len(samples) < EACH:
        return []
    settings = {
        "family": "answers", "metric": "answers", "dataset": data.digest, "split": "test", "samples": len(samples),
        "each": EACH, "condition": asdict(job.condition) if job.condition else None, "versions": versions(),
    }  # fmt: skip

    return of_samples(job, samples, settings, lambda: values_of(samples, data.test, kind, known_spread(job, data)))


def of_samples(
    job: Job, samples: Samples, settings: dict[str, Any], measure: Callable[[], Mapping[str, Value]]
) -> list[Measurement]:  # fmt: skip
    """The values that `measure` gives by metric of samples and their conditions, measured once (`parts.once`)."""

    def measured() -> list[Measurement]:
        return [
            Measurement(
                metric=name, better=metric_named(name).better, count=len(samples), settings=settings, **asdict(value)
            )
            for name, value in measure().items()
        ]

    assert samples.conditions is not None
    content = {"samples": array_digest(samples.images), "conditions": array_digest(samples.conditions)}
    return once(job, {**content, "protocol": settings}, measured)


def values_of(samples: Samples, test: Part, kind: Kind, known: float | None) -> Mapping[str, Value]:
    """The metrics of samples that were drawn EACH in a row; a last condition with fewer is left out."""
    assert samples.conditions is not None
    whole = len(samples) // EACH * EACH
    places = samples.conditions[:whole:EACH]
    originals = test.images[places].reshape(len(places), -1)
    hidden = hidden_of(test, kind, places)
    answers = Answers(samples.images[:whole].reshape(len(places), EACH, -1), originals, hidden)
    psnr = HOLE_PSNR if kind == "hole" else PSNR
    found = {ENERGY: answers.energy_score(), psnr: answers.psnr(), **answers.spread(known)}
    if kind == "hole":
        shape = (len(places), EACH, *samples.images.shape[1:])
        edges = seam(
            samples.images[:whole].reshape(shape), test.images[places], hidden.reshape(len(places), *shape[2:])
        )
        return {**found, KNOWN: answers.known_pixel_error(), SEAM: edges}
    if kind == "map":
        return found
    given = test.conditions["image"]["image"][samples.conditions]
    matrix = seen_small(test.images.shape[1:], given.shape[1:])
    made = samples.images.reshape(len(samples), -1) @ matrix.T
    return {**found, CONSISTENCY: consistency(made, given.reshape(len(given), -1))}


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


KNOWN_FROM = 500
"""Conditions that the known spread is measured on."""


def known_spread(job: Job, data: Dataset) -> float | None:
    """The root mean square distance, levels, of two images from the exact distribution; None if that is unknown."""
    if job.kind is None or data.law_given(job.kind) is None:
        return None
    places = np.arange(min(KNOWN_FROM, len(data.test)))
    first, second = (
        posterior_draws(data, job.kind, places, derive_seed(job.evaluation.seed, "spread", side)).reshape(
            len(places), -1
        )
        for side in (0, 1)
    )
    hidden = hidden_of(data.test, job.kind, places)
    squares = np.square(first.astype(np.float64) - second)
    return math.sqrt(float((np.where(hidden, squares, 0).sum(1) / hidden.sum(1)).mean()))
