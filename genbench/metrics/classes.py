"""Metrics of the extractor's predicted classes: inception score, class coverage, distance of the class shares."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from genbench.metrics.features import NO_CLASSES, checked
from genbench.metrics.metric import Measured, Metric
from genbench.metrics.value import Value, not_enough, with_error
from genbench.support.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from genbench.metrics.case import Case

COVERED = 0.1
DRAWS = 1000
ROUNDING = 1e-12


def inception_score(logits: Tensor, splits: int = 10, seed: int = 2020) -> Value:
    """exp of the mean KL(p(y|x) || p(y)) (Salimans et al. 2016), averaged over disjoint shuffled splits.

    Splits are independent, so the standard error is their deviation (ddof 1) over the square root of their number.
    """
    logits = checked(logits, "generated")
    if logits.shape[1] < 2:
        return Value(None, NO_CLASSES, status="not_applicable")
    if len(logits) < splits:
        return not_enough(f"{len(logits)} images for {splits} splits")
    shares = logits[np.random.RandomState(seed).permutation(len(logits))].softmax(1)
    ends = [part * len(shares) // splits for part in range(splits + 1)]
    scores = np.array([math.exp(information(shares[first:last])) for first, last in pairwise(ends)])
    value = Value(float(scores.mean()), deviation=float(scores.std()))
    if splits < 2:
        return value
    return with_error(value, float(scores.std()) / math.sqrt(splits - 1), splits - 1, 1.0, logits.shape[1])


def information(shares: Tensor) -> float:
    """The mean KL divergence of p(y|x) (n, classes) from their mean p(y), nats: H(p(y)) less the mean H(p(y|x))."""
    from torch.special import entr

    return float(entr(shares.mean(0)).sum() - entr(shares).sum(1).mean())


def class_metrics(
    generated: Tensor | None, test: Tensor | None, why_not: str = "", seed: int = 2020
) -> dict[str, Value]:
    """Class coverage and class distance of logits (N, classes) from those of the test images, by predicted classes.

    `class_coverage`: the share of classes that have at least a tenth of their share in the test images. `class_tv`: the
    total variation between the shares, half the sum of their absolute differences, from 0 (best) to 1. Its error is
    bootstrapped over the generated images: class counts are multinomial, so 1,000 draws cost nothing. That of the
    coverage is over shares that may be behind the counts, by a Dirichlet distribution with Jeffreys' prior: a class of
    which no image happens to be drawn may have a share.
    """
    names = ("class_coverage", "class_tv")
    if why_not or generated is None or test is None:
        why_not = why_not or NO_CLASSES
        return dict.fromkeys(names, Value(None, why_not, status="not_applicable"))
    if not len(generated) or not len(test):
        return dict.fromkeys(names, not_enough("no images"))
    expected, found = (class_shares(checked(*side)) for side in ((test, "test"), (generated, "generated")))
    count, generator = len(generated), np.random.default_rng(derive_seed(seed, "classes"))
    again = generator.multinomial(count, found, size=DRAWS) / count
    behind = generator.dirichlet(found * count + 0.5, size=DRAWS)
    rare = COVERED * float(expected[expected > 0].min()) * count
    note = f"{count} images: one is enough to cover the rarest class" if rare < 1 else ""
    values = {}
    for name, measure, draws in zip(names, (covered_share, total_variation), (behind, again)):
        value = Value(float(measure(found, expected)), note if name == "class_coverage" else "")
        values[name] = with_error(value, float(measure(draws, expected).std()), low=0.0, high=1.0)
    return values


def class_shares(logits: Tensor) -> np.ndarray:
    """For each class, the share of images (classes,) for which it is the most likely."""
    import torch

    return torch.bincount(logits.argmax(1), minlength=logits.shape[1]).double().numpy() / len(logits)


def covered_share(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The share, over the last axis, of expected classes whose share is at least a tenth of the expected one."""
    return np.asarray((found >= COVERED * expected - ROUNDING)[..., expected > 0].mean(-1))


def total_variation(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Half the sum of absolute differences over the last axis."""
    return np.asarray(np.abs(found - expected).sum(-1) / 2)


def measure_inception_score(case: Case) -> dict[str, Measured]:
    """The inception score of the generated images, which needs no real ones."""
    splits, seed = case.settings.isc_splits, case.settings.seed
    value = Value(None, NO_CLASSES, status="not_applicable")
    if case.generated.logits is not None:
        value = inception_score(case.generated.logits, splits, seed)
    return {"inception_score": Measured(value, len(case.generated), {"splits": splits, "seed": seed})}


def measure_classes(case: Case) -> dict[str, Measured]:
    """Class coverage and distance, if the extractor's classes are the dataset's."""
    test, seed = case.reference("test"), case.settings.seed
    settings = {"split": "test", "reference_images": len(test), "seed": seed}
    values = class_metrics(case.generated.logits, test.logits, case.no_classes, seed)
    return {name: Measured(value, len(case.generated), settings) for name, value in values.items()}


METRICS = (
    Metric(
        "inception_score", "IS", "higher", "score", sees="fidelity", measure=measure_inception_score,
        places={"quality": 10, "cost": 20, "full": 10, "record": 10},
    ),
    Metric(
        "class_coverage", "class coverage", "higher", split="test", sees="classes", measure=measure_classes,
        places={"full": 50, "record": 50},
    ),
    Metric(
        "class_tv", "class TV", split="test", sees="classes", measure=measure_classes,
        places={"full": 51, "record": 51},
    ),
)  # fmt: skip
