"""Precision, recall, density and coverage, from balls that reach to the k-th nearest neighbour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from genbench.metrics.distances import BAND, SPARE, Distances
from genbench.metrics.features import checked, chosen
from genbench.metrics.jackknife import jackknife_error, members
from genbench.metrics.metric import Measured, Metric
from genbench.metrics.value import Value, not_enough, share, with_error, with_notes

if TYPE_CHECKING:
    from torch import Tensor

    from genbench.metrics.case import Case

FEW = 1000
GROUPS = 3
LISTED = 11
NAMES = ("precision", "recall", "density", "coverage")


def precision_recall(generated: Tensor, reference: Tensor, k: int = 3) -> tuple[Value, Value]:
    """Improved precision and recall (Kynkäänniemi et al. 2019): the share of generated images within the reference's
    manifold, and of reference images within the generated one. A manifold is the union of closed balls that reach from
    each image to its k-th neighbour, not counting itself.
    """
    found = neighbour_metrics(generated, reference, k)
    return found["precision"], found["recall"]


def neighbour_metrics(
    generated: Tensor, reference: Tensor, k: int = 3, error_splits: int = 0, seed: int = 2020
) -> dict[str, Value]:
    """Precision and recall, and density and coverage (Naeem et al. 2020), of features (N, d) and (M, d), float64.

    Density is the mean number of the reference's balls that contain a generated image, over k: it may exceed 1.
    Coverage is the share of the reference's balls that contain a generated image. All balls are closed.

    With fixed reference images precision is binomial and density a mean; recall and coverage get their error from
    subsets of two thirds of the generated images, in `error_splits` partitions into thirds
    (genbench.metrics.jackknife), using the same distances.
    """
    generated, reference = checked(generated, "generated"), checked(reference, "reference")
    count = min(len(generated), len(reference))
    if count <= k:
        return dict.fromkeys(NAMES, not_enough(f"{count} images for {k} neighbours"))
    error_splits = error_splits if len(generated) // GROUPS > k else 0
    subsets = members(len(generated), error_splits, GROUPS, seed)
    counted = _count(generated, reference, k, subsets)
    total = len(reference)
    found = {
        "precision": share(int((counted.balls > 0).sum()), len(generated)),
        "recall": Value(int(counted.recalled.sum()) / total),
        "density": Value(float(counted.balls.sum()) / (k * len(generated))),
        "coverage": Value(int(counted.covered.sum()) / total),
    }
    found["density"] = with_error(found["density"], float(counted.balls.std()) / k / len(generated) ** 0.5, low=0.0)
    if subsets.shape[1]:
        for name, hits in (("recall", counted.recalled_by), ("coverage", counted.covered_by)):
            error = jackknife_error(hits.double().mean(0), GROUPS)
            found[name] = with_error(found[name], error, error_splits * (GROUPS - 1), low=0.0, high=1.0)
    note = f"{count} images per side: balls shrink with more, compare at this number only" if count < FEW else ""
    return {name: with_notes(value, note) for name, value in found.items()}


@dataclass(frozen=True)
class Counts:
    """For every generated image, the number of reference balls it is in; for every reference image, whether it is
    recalled and its ball covered, by all generated images (M,) and by each subset of them (M, subsets)."""

    balls: Tensor
    recalled: Tensor
    covered: Tensor
    recalled_by: Tensor
    covered_by: Tensor


def _count(generated: Tensor, reference: Tensor, k: int, subsets: Tensor) -> Counts:
    """All pairs of reference (rows) and generated images (columns), a block of rows at a time."""
    import torch

    radii = Distances(reference, reference).kth(k + 1)
    own, of_subsets = _generated_radii(generated, k, subsets)
    reach = of_subsets.amax(1).maximum(own) if subsets.shape[1] else own
    distances = Distances(reference, generated)
    balls = torch.zeros(len(generated), dtype=torch.float64)
    recalled, covered = torch.zeros(len(reference), dtype=torch.bool), torch.zeros(len(reference), dtype=torch.bool)
    recalled_by, covered_by = (torch.zeros(len(reference), subsets.shape[1], dtype=torch.bool) for _ in range(2))
    for start, block in distances.blocks():
        i, j = distances.inside(start, block, radii[start : start + len(block), None])
        balls += torch.bincount(j, minlength=len(balls))
        covered[i] = True
        recalled[distances.inside(start, block, own[None])[0]] = True
        if subsets.shape[1]:
            _mark(covered_by, i, subsets[j])
            i, j, near = _about(distances, start, block, reach)
            _mark(recalled_by, i, near[:, None] <= of_subsets[j])
    return Counts(balls, recalled, covered, recalled_by, covered_by)


def _generated_radii(generated: Tensor, k: int, subsets: Tensor) -> tuple[Tensor, Tensor]:
    """Radii of the generated images among all (N,), and approximately within each subset (N, subsets), -inf outside it.

    Fewer than k of the 5k + 10 nearest others are in a subset once in a million; then the farthest stands in.
    """
    import torch

    distances = Distances(generated, generated)
    listed = 5 * k + LISTED if subsets.shape[1] else k + 1 + SPARE
    lower, columns = distances.nearest(listed)
    radii = distances.kth_of(lower, columns, k + 1)
    within = []
    for rows in torch.split(torch.arange(len(generated)), BAND):
        alike = subsets[columns[rows]] & (columns[rows] != rows[:, None])[:, :, None]
        enough = alike.cumsum(1) >= k
        place = torch.where(enough.any(1), enough.int().argmax(1), columns.shape[1] - 1)
        blur = distances.blur[0][rows, None] + distances.blur[1][columns[rows]]
        near = (lower[rows].double() + blur / 2).clamp(min=0).sqrt()
        found = near.gather(1, place) * distances.scale
        within.append(found.masked_fill(~subsets[rows], -torch.inf))
    return radii, torch.cat(within)


def _about(distances: Distances, start: int, block: Tensor, reach: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and distances, to float32 precision, of the pairs of a block that are within `reach` (M,)."""
    i, j = (block <= (reach / distances.scale).square().float()).nonzero(as_tuple=True)
    middle = block[i, j].double() + (distances.blur[0][start + i] + distances.blur[1][j]) / 2
    return start + i, j, middle.clamp(min=0).sqrt() * distances.scale


def _mark(marks: Tensor, rows: Tensor, hits: Tensor) -> None:
    """Set the marks (M, subsets) of the rows (P,) of pairs from the pairs' hits (P, subsets)."""
    import torch

    for part, hit in zip(torch.split(rows, 2**18), torch.split(hits, 2**18)):
        first = int(part.min()) if len(part) else 0
        span = marks[first : int(part.max()) + 1] if len(part) else marks[:0]
        counts = torch.zeros(span.shape, dtype=torch.int32).index_add_(0, part - first, hit.int())
        span |= counts > 0


def measure(case: Case) -> dict[str, Measured]:
    """Precision, recall, density and coverage, with equally many images on both sides."""
    generated, test, given = case.generated, case.reference("test"), case.settings
    count = min(len(generated), len(test))
    ours = generated.take(chosen(len(generated), count, given.seed, "neighbours, generated"))
    theirs = test.take(chosen(len(test), count, given.seed, "neighbours, test"))
    settings = {
        "split": "test", "reference_images": count, "k": given.k, "seed": given.seed, "compare": "<=",
        "error_splits": given.error_splits,
    }  # fmt: skip
    values = neighbour_metrics(ours.features, theirs.features, given.k, given.error_splits, given.seed)
    return {name: Measured(value, count, settings) for name, value in values.items()}


METRICS = (
    Metric(
        "precision", "precision", "higher", split="test", sees="fidelity", measure=measure,
        places={"cost": 40, "full": 40, "record": 40},
    ),
    Metric(
        "recall", "recall", "higher", split="test", sees="diversity", measure=measure,
        places={"cost": 41, "full": 41, "record": 41},
    ),
    Metric(
        "density", "density", "higher", split="test", sees="fidelity", measure=measure,
        places={"full": 42, "record": 42},
    ),
    Metric(
        "coverage", "coverage", "higher", split="test", sees="diversity", measure=measure,
        places={"full": 43, "record": 43},
    ),
)  # fmt: skip
