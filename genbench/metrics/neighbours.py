"""Precision, recall, density, coverage and a two-sample test, from the k nearest neighbours of every image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from genbench.metrics.distances import BAND, SPARE, Distances, Nearest, smallest
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
NAMES = ("precision", "recall", "density", "coverage", "two_sample")


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
    """Precision and recall, density and coverage (Naeem et al. 2020), and a two-sample test, of features (N, d) and
    (M, d), float64.

    Density is the mean number of the reference's balls that contain a generated image, over k: it may exceed 1.
    Coverage is the share of the reference's balls that contain a generated image. All balls are closed.

    The two-sample test (Schilling 1986, "Multivariate two-sample tests based on nearest neighbors") counts who is among
    the k nearest other images, real and generated, of every image. For generated images it is the share of real ones
    over M / (N + M - 1), its expectation for equal distributions of any kind; for real images that of generated ones
    over N / (N + M - 1); each shows what the other hides. The value is the lower of the two (both, because their sum
    is blind to scale in many dimensions: Chen and Friedman 2017, "A new graph-based two-sample test for multivariate
    and object data"), and at most 1, so that copies of the reference gain nothing. Samples that crowd about the mean
    are near to every real image, but nearer to their like; those that scatter are far from the real ones, who then
    have their like for neighbours.

    With fixed reference images precision is binomial and density a mean; the others get their error from subsets of
    two thirds of the generated images, in `error_splits` partitions into thirds (genbench.metrics.jackknife), using the
    same distances.
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
        "two_sample": Value(min(1.0, float(_worse(counted.mixed, len(generated), total, k)))),
    }
    found["density"] = with_error(found["density"], float(counted.balls.std()) / k / len(generated) ** 0.5, low=0.0)
    if subsets.shape[1]:
        of_subsets = {
            "recall": counted.recalled_by.double().mean(0),
            "coverage": counted.covered_by.double().mean(0),
            "two_sample": _worse(counted.mixed_by, subsets.sum(0), total, k),
        }
        for name, values in of_subsets.items():
            error = jackknife_error(values, GROUPS)
            found[name] = with_error(found[name], error, error_splits * (GROUPS - 1), low=0.0, high=1.0)
    note = f"{count} images per side: balls shrink with more, compare at this number only" if count < FEW else ""
    return {name: with_notes(value, note) for name, value in found.items()}


@dataclass(frozen=True)
class Counts:
    """For every generated image, the number of reference balls it is in; for every reference image, whether it is
    recalled and its ball covered, by all generated images (M,) and by each subset of them (M, subsets).

    `mixed` (2,) are the numbers of images of the other kind among the k nearest, summed over the generated and over the
    reference images, and `mixed_by` (2, subsets) those with each subset.
    """

    balls: Tensor
    recalled: Tensor
    covered: Tensor
    mixed: Tensor
    recalled_by: Tensor
    covered_by: Tensor
    mixed_by: Tensor


def _count(generated: Tensor, reference: Tensor, k: int, subsets: Tensor) -> Counts:
    """All pairs of reference (rows) and generated images (columns), a block of rows at a time."""
    import torch

    listed = 5 * k + LISTED if subsets.shape[1] else k + 1 + SPARE
    theirs = Distances(reference, reference)
    theirs_own = theirs.closest(*theirs.nearest(k + 1 + SPARE), k + 1)[:, 1:]
    ours = Distances(generated, generated)
    near = ours.nearest(listed)
    ours_own, own_of = ours.closest(*near, k + 1)[:, 1:], _within(ours, *near, k, subsets)
    own_of.masked_fill_(~subsets[:, :, None], -torch.inf)
    radii, reach, reach_of = theirs_own[:, -1:], ours_own[:, -1], own_of[:, :, -1]
    farthest = reach_of.amax(1).maximum(reach) if subsets.shape[1] else reach
    distances = Distances(reference, generated)
    to_theirs, to_ours = Nearest(len(generated), min(k + SPARE, len(reference))), []
    balls = torch.zeros(len(generated), dtype=torch.float64)
    recalled, covered = torch.zeros(len(reference), dtype=torch.bool), torch.zeros(len(reference), dtype=torch.bool)
    recalled_by, covered_by = (torch.zeros(len(reference), subsets.shape[1], dtype=torch.bool) for _ in range(2))
    for start, block in distances.blocks():
        to_theirs.add(0, start, block.T.contiguous())
        to_ours.append(smallest(block, listed))
        i, j = distances.inside(start, block, radii[start : start + len(block)])
        balls += torch.bincount(j, minlength=len(balls))
        covered[i] = True
        recalled[distances.inside(start, block, reach[None])[0]] = True
        if subsets.shape[1]:
            _mark(covered_by, i, subsets[j])
            i, j, apart = _about(distances, start, block, farthest)
            _mark(recalled_by, i, apart[:, None] <= reach_of[j])
    near = torch.cat([lower for lower, _ in to_ours]), torch.cat([columns for _, columns in to_ours])
    theirs_cross, cross_of = distances.closest(*near, k), _within(distances, *near, k, subsets)
    ours_cross = distances.turned().closest(to_theirs.values, to_theirs.columns, k)
    mixed = _nearer(ours_cross, ours_own), _nearer(theirs_cross, theirs_own)
    mixed_by = _nearer(ours_cross[:, None], own_of), _nearer(cross_of, theirs_own[:, None])
    return Counts(balls, recalled, covered, torch.stack(mixed), recalled_by, covered_by, torch.stack(mixed_by))


def _nearer(others: Tensor, own: Tensor) -> Tensor:
    """How many of the k nearest are of the other kind, summed over images (N, ..., k), from the k smallest distances to
    each kind, sorted: the m-th of the others is one if it is nearer than the (k - m + 1)-th of the own kind. Of two as
    far, either may come first: this is the mean of both orders."""
    own = own.flip(-1)
    nearer = (others <= own).double() + (others < own)
    return nearer.sum(-1).sum(0) / 2


def _worse(mixed: Tensor, count: Tensor | int, total: int, k: int) -> Tensor:
    """The lower of the two shares of the other kind among the neighbours, over what equal distributions would have."""
    return (mixed * (count + total - 1) / (k * count * total)).amin(0)


def _within(distances: Distances, lower: Tensor, columns: Tensor, k: int, subsets: Tensor) -> Tensor:
    """Distances (N, subsets, k) from each row to the k nearest columns of each subset, itself excluded, sorted and
    approximate, from its smallest bounds (N, 5k + LISTED) and their columns.

    Fewer than k of these are in a subset once in a million; then the farthest stands in.
    """
    import torch

    within = []
    for rows in torch.split(torch.arange(len(lower)), BAND):
        alike = subsets[columns[rows]]
        if distances.symmetric:
            alike &= (columns[rows] != rows[:, None])[:, :, None]
        blur = distances.blur[0][rows, None] + distances.blur[1][columns[rows]]
        near = (lower[rows].double() + blur / 2).clamp(min=0).sqrt() * distances.scale
        seen, last = alike.cumsum(1), columns.shape[1] - 1
        found = []
        for count in range(1, k + 1):
            enough = seen >= count
            found.append(near.gather(1, torch.where(enough.any(1), enough.int().argmax(1), last)))
        within.append(torch.stack(found, 2))
    return torch.cat(within)


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
    """All metrics of neighbours, with equally many images on both sides."""
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
    Metric(
        "two_sample", "two-sample", "higher", split="test", sees="everything", measure=measure,
        places={"headline": 30, "quality": 30, "full": 44, "record": 44},
    ),
)  # fmt: skip
