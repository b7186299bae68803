"""FID, KID, inception score, precision and recall of float64 features, through torch-fidelity's own functions.

Features are float64 (N, d) and logits float64 (N, classes), extracted once per set of images. `generated` comes first,
the reference second. Features with NaN or infinity are refused by CorruptData; what cannot be computed is a `Value`
without a number, with the status and the sentence that say why.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import calculate_precision_recall_part

from genbench.evaluate.extractors import Features, require_finite
from genbench.evaluate.protocol import EvaluationSettings, versions
from genbench.records import Measurement, ValueStatus
from genbench.seeds import derive_seed

KID_SUBSET = 1000
LOGIT_GAP = 690.0
"""exp(-690) is 1e-300: no normal float64 is much smaller, and a mean over a million images of it still is one."""
NEIGHBOUR_BLOCK = 2000
Settings = dict[str, Any]


@dataclass(frozen=True)
class Value:
    """A number as a measurement keeps it, or None with a status and a sentence.

    `deviation` is over the subsets or splits that the number is the mean of; papers print it, but it is no error.
    """

    value: float | None
    note: str = ""
    stderr: float | None = None
    status: ValueStatus = "ok"
    deviation: float | None = None


def too_few(note: str) -> Value:
    return Value(None, note, status="not_enough_samples")


def fid(generated: Tensor, reference: Tensor, allow_rank_deficient: bool = False) -> Value:
    """Fréchet distance of two Gaussians fitted to the features (Heusel et al. 2017), float64.

    Needs more images than feature dimensions on both sides, else the covariances cannot have full rank.
    """
    generated, reference = _checked(generated, "generated"), _checked(reference, "reference")
    count, dim = min(len(generated), len(reference)), generated.shape[1]
    if count < 2:
        return too_few("FID needs at least 2 images on both sides")
    if count <= dim and not allow_rank_deficient:
        return too_few(f"{count} images for {dim} feature dimensions: the covariance cannot have full rank")
    first, second = fid_features_to_statistics(generated), fid_features_to_statistics(reference)
    distance = float(fid_statistics_to_metric(first, second, verbose=False)["frechet_inception_distance"])
    notes = [f"rank-deficient: {count} images for {dim} feature dimensions"] if count <= dim else []
    tolerance = 1e-6 * max(1.0, float(np.trace(first["sigma"]) + np.trace(second["sigma"])))
    if not distance >= -tolerance:
        return Value(None, f"the distance came out as {distance:g}: numerically unreliable", status="failed")
    if distance < 0:
        notes.append(f"{distance:.3g} before clamping to 0")
    return Value(max(distance, 0.0), "; ".join(notes))


def kid(generated: Tensor, reference: Tensor, subsets: int = 100, seed: int = 2020) -> Value:
    """Unbiased squared MMD with the kernel (x.y/d + 1)^3 (Bińkowski et al. 2018), averaged over random subsets.

    It may be slightly negative. Subsets overlap, so that their standard deviation is no standard error.
    """
    generated, reference = _checked(generated, "generated"), _checked(reference, "reference")
    size = kid_subset_size(len(generated), len(reference))
    if size < 2:
        return too_few("KID needs at least 4 images on both sides")
    result = kid_features_to_metric(
        generated, reference, kid_subsets=subsets, kid_subset_size=size, rng_seed=seed, verbose=False
    )
    note = f"in subsets of {size} images, not of {KID_SUBSET:,}" if size < KID_SUBSET else ""
    mean, deviation = result["kernel_inception_distance_mean"], result["kernel_inception_distance_std"]
    return Value(mean, note, deviation=deviation)


def kid_subset_size(generated: int, reference: int) -> int:
    """1,000 where both sets have at least 2,000 images, else half the smaller set."""
    return min(KID_SUBSET, min(generated, reference) // 2)


def inception_score(logits: Tensor, splits: int = 10, seed: int = 2020) -> Value:
    """exp of the mean KL(p(y|x) || p(y)) (Salimans et al. 2016), averaged over disjoint shuffled splits.

    Splits are independent, so that their deviation (ddof 1) over the root of their number is the standard error.
    """
    logits = _checked(logits, "generated")
    if logits.shape[1] < 2:
        return Value(None, "the extractor has no classes", status="not_applicable")
    if len(logits) < splits:
        return too_few(f"{len(logits)} images for {splits} splits")
    # Where a probability underflows, torch-fidelity's 0 * log 0 is NaN; floored, it adds less than 1e-290.
    floored = torch.maximum(logits, logits.max(dim=1, keepdim=True).values - LOGIT_GAP)
    result = isc_features_to_metric(floored, splits, shuffle=True, rng_seed=seed)
    deviation = result["inception_score_std"]
    stderr = deviation / math.sqrt(splits - 1) if splits > 1 else None
    return Value(result["inception_score_mean"], stderr=stderr, deviation=deviation)


def precision_recall(generated: Tensor, reference: Tensor, k: int = 3) -> tuple[Value, Value]:
    """Improved precision and recall (Kynkäänniemi et al. 2019): the share of generated images within the reference's
    manifold, and of reference images within the generated one; a manifold is the union of balls reaching to the k-th
    neighbour, itself excluded, the surface included.

    Features are centred: distances of points far from the origin cancel catastrophically in matrix products.
    """
    generated, reference = _checked(generated, "generated"), _checked(reference, "reference")
    count = min(len(generated), len(reference))
    if count <= k:
        few = too_few(f"{count} images for {k} neighbours")
        return few, few
    centre = reference.mean(0)
    precision, recall = calculate_precision_recall_part(
        generated - centre, reference - centre, neighborhood=k, batch_size=NEIGHBOUR_BLOCK
    )
    return Value(precision), Value(recall)


def fidelity_measurements(
    generated: Features,
    train: Features | None,
    test: Features | None,
    settings: EvaluationSettings,
    protocol_of: Callable[[Settings], Settings],
) -> list[Measurement]:
    """All fidelity metrics of one set of generated images; those of a reference that is None are left out.

    `protocol_of` adds what is the caller's (extractor, dataset digest) to a metric's own settings. The test reference
    should hold all test images; of the training images `max_train_reference` are used, chosen by the seed.
    """
    found: list[Measurement] = []

    def add(metric: str, better: Literal["lower", "higher"], value: Value, count: int, **own: Any) -> None:
        behind = {"family": "fidelity", "metric": metric, "samples": count, **own, "versions": versions()}
        number = asdict(value)
        found.append(Measurement(metric=metric, better=better, count=count, settings=protocol_of(behind), **number))

    count, seed = len(generated), settings.seed
    score = Value(None, "the extractor has no classes", status="not_applicable")
    if generated.logits is not None:
        score = inception_score(generated.logits, settings.isc_splits, seed)
    add("inception_score", "higher", score, count, splits=settings.isc_splits, seed=seed)

    for split, reference in (("test", test), ("train", train)):
        if reference is None:
            continue
        if split == "train":
            reference = reference.take(chosen(len(reference), settings.max_train_reference, seed, "train reference"))
        sides: Settings = {"split": split, "reference_images": len(reference)}
        rank = {"allow_rank_deficient": settings.allow_rank_deficient}
        distance = fid(generated.features, reference.features, settings.allow_rank_deficient)
        add(f"fid_{split}", "lower", distance, count, **sides, **rank)
        subset = {"subsets": settings.kid_subsets, "subset_size": kid_subset_size(count, len(reference)), "seed": seed}
        distance = kid(generated.features, reference.features, settings.kid_subsets, seed)
        add(f"kid_{split}", "lower", distance, count, **sides, **subset, kernel="(x.y/d + 1)^3")

    if test is not None:
        count = min(len(generated), len(test))
        ours = generated.take(chosen(len(generated), count, seed, "neighbours, generated"))
        theirs = test.take(chosen(len(test), count, seed, "neighbours, test"))
        own = {"split": "test", "reference_images": count, "k": settings.k, "seed": seed, "compare": "<="}
        for metric, value in zip(("precision", "recall"), precision_recall(ours.features, theirs.features, settings.k)):
            add(metric, "higher", value, count, **own)
    return found


def chosen(count: int, most: int, seed: int, purpose: str) -> np.ndarray:
    """Sorted indices of `most` of `count` images, drawn without replacement; all of them where there are no more."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(derive_seed(seed, purpose)).choice(count, most, replace=False))


def _checked(features: Tensor, side: str) -> Tensor:
    """The features as float64 (N, d) on the CPU. Raises CorruptData where one is not finite."""
    return require_finite(features.detach().cpu().double(), f"features of the {side} images")
