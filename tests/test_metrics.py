"""Density, coverage, class metrics, memorised share and FID at infinite N: known answers, directions, refusals."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from genbench.evaluate.fidelity import fid, fidelity_measurements
from genbench.metrics.classes import class_metrics
from genbench.metrics.features import Features
from genbench.metrics.frechet import fid_infinity
from genbench.metrics.memorisation import memorised_share
from genbench.metrics.neighbours import neighbour_metrics
from genbench.records.protocol import EvaluationSettings
from genbench.support.errors import CorruptData


def normal(n, d, seed=0, scale=1.0, mean=0.0):
    return mean + scale * torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def values(found):
    return {name: value.value for name, value in found.items()}


# density and coverage


def test_density_and_coverage_by_hand():
    """Radii of 0, 1, 3 with one neighbour are 1, 1, 2: 0.5 is in two balls, 5 on the surface of one, 9 in none."""
    found = values(neighbour_metrics(column(0.5, 5, 9), column(0, 1, 3), k=1))
    assert found["density"] == pytest.approx(3 / 3) and found["coverage"] == pytest.approx(1.0)
    assert found["precision"] == pytest.approx(2 / 3)
    found = values(neighbour_metrics(column(0.5, 0.6, 0.7), column(0, 1, 3), k=1))
    assert found["density"] == pytest.approx(6 / 3) and found["coverage"] == pytest.approx(2 / 3)


def others(cross, own, k):
    """The share of the other kind among the k nearest, over its expectation: the mean of putting it first or last."""
    n, m = cross.shape
    own = own.clone().fill_diagonal_(math.inf)
    first = torch.cat([cross, own], 1).sort(dim=1, stable=True).indices[:, :k] < m
    last = torch.cat([own, cross], 1).sort(dim=1, stable=True).indices[:, :k] >= n
    return float((first.double() + last).mean()) / 2 * (n + m - 1) / m


def brute(generated, reference, k):
    own, cross = torch.cdist(reference, reference), torch.cdist(generated, reference)
    inside = cross <= own.kthvalue(k + 1).values
    apart = torch.cdist(generated, generated)
    back = cross <= apart.kthvalue(k + 1).values[:, None]
    mixed = min(others(cross, apart, k), others(cross.T, own, k))
    return {
        "precision": float(inside.any(1).double().mean()), "recall": float(back.any(0).double().mean()),
        "density": float(inside.sum()) / k / len(generated), "coverage": float(inside.any(0).double().mean()),
        "two_sample": min(1.0, mixed),
    }  # fmt: skip


@pytest.mark.parametrize("counts", [(60, 60), (300, 300), (300, 700), (700, 300)])
@pytest.mark.parametrize("d", [1, 5, 200])
@pytest.mark.parametrize("k", [1, 3, 9])
def test_neighbour_metrics_equal_the_definition(counts, d, k):
    generated, reference = normal(counts[0], d, scale=1.2), normal(counts[1], d, seed=1)
    assert values(neighbour_metrics(generated, reference, k, 3)) == pytest.approx(brute(generated, reference, k))


@pytest.mark.parametrize("offset", [1e4, 1e8])
@pytest.mark.parametrize("n", [26, 300])
def test_a_large_offset_changes_nothing(n, offset):
    a, b = ((normal(n, 16, seed) * 64).round() / 64 for seed in (0, 1))
    wanted = values(neighbour_metrics(a, b, 3, 4))
    assert wanted == pytest.approx(brute(a, b, 3))
    assert values(neighbour_metrics(a + offset, b + offset, 3, 4)) == wanted


def test_one_outlier_far_away_does_not_blur_the_others():
    a, b = normal(300, 8), normal(300, 8, seed=1)
    wanted = brute(a, b, 3)
    far = torch.full((1, 8), 1e9, dtype=torch.float64)
    found = values(neighbour_metrics(torch.cat([a, far]), b, 3))
    assert found["precision"] == pytest.approx(wanted["precision"] * 300 / 301)
    assert found["coverage"] == wanted["coverage"]


def test_ties_and_copies_are_inside():
    a = normal(200, 8)
    for generated in (a, a.flip(0), a.repeat(3, 1)):
        found = values(neighbour_metrics(generated, a, 3, 3))
        assert found["precision"] == found["recall"] == found["coverage"] == 1.0
    grid = torch.cartesian_prod(*[torch.arange(6, dtype=torch.float64)] * 3)
    assert values(neighbour_metrics(grid + 1, grid, 3)) == pytest.approx(brute(grid + 1, grid, 3))
    same = torch.full((300, 8), 0.3, dtype=torch.float64)
    assert values(neighbour_metrics(same, same, 3, 3))["precision"] == 1.0
    assert values(neighbour_metrics(same, a, 3, 3))["recall"] == 0.0


def test_collapse_loses_recall_and_coverage_but_not_precision():
    reference = normal(500, 8)
    good = values(neighbour_metrics(normal(500, 8, seed=1), reference))
    collapsed = values(neighbour_metrics(0.05 * normal(500, 8, seed=1), reference))
    assert collapsed["precision"] >= good["precision"] and collapsed["density"] > good["density"]
    assert collapsed["recall"] < 0.3 < good["recall"] - 0.3 and collapsed["coverage"] < good["coverage"] - 0.3


def test_noise_loses_density_and_coverage():
    reference = normal(500, 8)
    found = [
        values(neighbour_metrics(normal(500, 8, seed=1) + s * normal(500, 8, seed=2), reference)) for s in (0, 1, 2)
    ]
    for metric in ("precision", "density", "coverage"):
        assert found[0][metric] > found[1][metric] > found[2][metric]


# two-sample test


def two_sample(generated, reference, k=3):
    return neighbour_metrics(generated, reference, k)["two_sample"].value


def test_two_sample_by_hand():
    """Next to 0 and 1 is the real 0.4, next to 10 and 10.5 is the other; of six others of each, three are real."""
    assert two_sample(column(0, 1, 10, 10.5), column(0.4, 20, 30), 1) == pytest.approx((2 / 4) / (3 / 6))
    generated, reference = column(0, 1, 10, 10.5), column(0.4, 30, 40)
    assert two_sample(generated, reference, 2) == pytest.approx((2 / 8) / (3 / 6))
    assert two_sample(reference, generated, 2) == two_sample(generated, reference, 2)
    assert two_sample(column(0, 1), column(0.5, 9), 1) == 1.0  # all of both kinds, where 2/3 are expected


@pytest.mark.parametrize("d", [2, 512])
@pytest.mark.parametrize("k", [1, 3])
def test_two_sample_of_equal_distributions_is_one_in_any_dimension(d, k):
    found = [two_sample(normal(200, d, 2 * i).abs(), normal(300, d, 2 * i + 1).abs(), k) for i in range(6)]
    assert all(value <= 1 for value in found) and np.mean(found) > 0.88


@pytest.mark.parametrize("d", [8, 300])
def test_two_sample_falls_with_every_distance_and_to_nothing(d):
    reference = normal(400, d)
    shifted = [two_sample(normal(400, d, seed=1, mean=mean), reference) for mean in (0, 0.3, 0.8, 9)]
    wide = [two_sample(normal(400, d, seed=1, scale=scale), reference) for scale in (1, 1.5, 3, 100)]
    narrow = [two_sample(normal(400, d, seed=1, scale=scale), reference) for scale in (1, 0.7, 0.4, 0.01)]
    for found in (shifted, wide, narrow):
        assert found == sorted(found, reverse=True) and found[0] > 0.9 and found[1] < 0.86 and found[-1] < 0.02


def test_what_lies_near_the_mean_is_in_every_ball_and_yet_told_from_real_images():
    """In 300 dimensions, points of half the deviation are nearer to every real one than real ones are to each other."""
    reference = normal(300, 300)
    found = values(neighbour_metrics(normal(300, 300, seed=1, scale=0.5), reference))
    real = values(neighbour_metrics(normal(300, 300, seed=2), reference))
    assert found["precision"] == 1.0 > real["precision"] and found["density"] > 10 and found["coverage"] == 1.0
    assert found["two_sample"] == 0.0 and real["two_sample"] > 0.7


def test_images_that_are_as_far_count_as_either_kind():
    same = torch.full((200, 4), 0.3, dtype=torch.float64)
    assert two_sample(same, same) == pytest.approx(399 / 400)
    coarse = [two_sample(*(normal(300, 2, 2 * i + j).round() for j in (0, 1))) for i in range(4)]
    assert np.mean(coarse) == pytest.approx(0.97, abs=0.03)
    assert two_sample(normal(300, 2, mean=0.7).round(), normal(300, 2, 1).round()) < 0.95


def test_copies_and_repeats_are_no_better_than_real_images():
    reference, fresh = normal(300, 8), normal(300, 8, seed=1)
    assert two_sample(reference, reference) == two_sample(reference.repeat(2, 1), reference) == 1.0
    assert two_sample(fresh[:30].repeat(10, 1), reference) == 0.0
    half = torch.cat([fresh[:150], normal(150, 8, seed=2, mean=9.0)])
    assert two_sample(half, reference) == pytest.approx(0.65, abs=0.1)


def test_few_images_are_told_with_their_number():
    assert "120 images" in neighbour_metrics(normal(120, 4), normal(150, 4, seed=1))["coverage"].note
    assert neighbour_metrics(normal(1000, 2), normal(1000, 2, seed=1))["coverage"].note == ""
    assert neighbour_metrics(normal(3, 4), normal(150, 4))["density"].status == "not_enough_samples"


# classes


def logits(*counts):
    return 5 * torch.eye(len(counts), dtype=torch.float64).repeat_interleave(torch.tensor(counts), 0)


def test_class_metrics_by_hand():
    """Expected shares 0.5, 0.3, 0.2; found 0.89, 0.09, 0.02: the last has exactly a tenth of its share."""
    found = class_metrics(logits(89, 9, 2), logits(50, 30, 20))
    assert found["class_coverage"].value == 1.0 and found["class_tv"].value == pytest.approx(0.39)
    assert class_metrics(logits(90, 9, 1), logits(50, 30, 20))["class_coverage"].value == pytest.approx(2 / 3)
    assert class_metrics(logits(90, 10, 0), logits(50, 50, 0))["class_coverage"].value == 1.0
    lucky, unlucky = (
        class_metrics(logits(*n), logits(33, 33, 33, 1))["class_coverage"] for n in ((33, 33, 33, 1), (34, 33, 33, 0))
    )
    assert (lucky.value, unlucky.value) == (1.0, 0.75)
    assert unlucky.interval[1] > lucky.interval[0], "whether a rare class is drawn once says little"
    same = class_metrics(logits(50, 30, 20), logits(500, 300, 200))
    assert (same["class_coverage"].value, same["class_tv"].value) == (1.0, 0.0)


def test_dropped_classes_lower_coverage_and_raise_the_distance():
    test = logits(*[100] * 10)
    found = [class_metrics(logits(*[100] * kept, *[0] * (10 - kept)), test) for kept in (10, 7, 3, 1)]
    assert [f["class_coverage"].value for f in found] == pytest.approx([1.0, 0.7, 0.3, 0.1])
    assert [f["class_tv"].value for f in found] == pytest.approx([0.0, 0.3, 0.7, 0.9])


def test_classes_that_are_not_the_datasets_have_no_number():
    for found in (
        class_metrics(logits(5, 5), logits(5, 5), "the classes are others"),
        class_metrics(None, logits(5, 5)),
        class_metrics(logits(5, 5), None),
    ):
        assert {value.status for value in found.values()} == {"not_applicable"}
        assert all(value.value is None and value.note for value in found.values())


def test_a_rare_class_is_told():
    assert "10 images" in class_metrics(logits(5, 5), logits(95, 5))["class_coverage"].note
    assert class_metrics(logits(50, 50), logits(50, 50))["class_coverage"].note == ""


def of_labels(labels, **more):
    sets = [Features(normal(100, 4, seed), logits(50, 30, 20)) for seed in range(3)]
    sets[0] = replace(sets[0], labels=labels)
    return {m.metric: m for m in fidelity_measurements(*sets, EvaluationSettings(), dict, **more)}


def test_class_accuracy_by_hand():
    """Drawn under class 0 throughout, of which the extractor sees 50 in 100."""
    found = of_labels(np.zeros(100, dtype=np.int64))["class_accuracy"]
    assert found.value == 0.5 and found.count == 100 and found.stderr == pytest.approx(0.05)
    taken = Features(normal(100, 4), logits(50, 30, 20), np.arange(100)).take(np.array([7, 3]))
    assert taken.labels.tolist() == [7, 3] and len(taken.logits) == 2


def test_samples_without_labels_have_no_class_accuracy():
    assert "class_accuracy" not in of_labels(None)
    foreign = of_labels(np.zeros(100, dtype=np.int64), no_classes="the classes of toy are not digits'")
    found = foreign["class_accuracy"]
    assert found.value is None and found.status == "not_applicable" and "toy" in found.note


# memorised share


def test_memorised_share_of_copies_fresh_and_far_images():
    train, held_out = normal(600, 8), normal(1000, 8, seed=1)
    assert memorised_share(train[:300], train, held_out).value == 1.0
    assert memorised_share(held_out, train, held_out).value == pytest.approx(0.05)
    assert memorised_share(normal(3000, 8, seed=2), train, held_out).value == pytest.approx(0.05, abs=0.02)
    assert memorised_share(normal(300, 8, seed=2, mean=50.0), train, held_out).value == 0.0


def test_the_more_copies_the_higher_the_memorised_share():
    train, held_out, fresh = normal(600, 8), normal(500, 8, seed=1), normal(500, 8, seed=2)
    found = [memorised_share(torch.cat([train[:n], fresh[n:]]), train, held_out).value for n in (0, 100, 250, 500)]
    assert found == sorted(found) and found[2] == pytest.approx(0.525, abs=0.03) and found[3] == 1.0


def test_memorised_share_by_hand():
    """Held-out distances 1..20: the 5th percentile lies at 1.95."""
    held_out = torch.arange(1, 21, dtype=torch.float64)[:, None]
    found = memorised_share(column(-1.9, -1.96, 1.95, 0), column(0), held_out)
    assert found.value == 0.75 and "20 held-out" in found.note
    assert memorised_share(column(1), column(0), held_out[:19]).status == "not_enough_samples"


def test_held_out_copies_of_training_images_are_told():
    train = normal(100, 4)
    found = memorised_share(normal(200, 4, seed=1), train, torch.cat([train[:50], normal(200, 4, seed=2)]))
    assert found.value == 0.0 and "copies" in found.note


# FID at infinite N


@pytest.mark.parametrize(
    ("shift", "scale", "closed"), [(0.0, 1.0, 0.0), (0.2, 1.0, 0.64), (0.1, 1.3, 0.16 + 16 * 0.09)]
)
def test_fid_at_infinite_n_is_near_the_closed_form(shift, scale, closed):
    reference = normal(40_000, 16, seed=99)
    small, far = [], []
    for seed in range(6):
        generated = normal(400, 16, seed, scale, shift)
        value = fid(generated, reference, error_splits=5)
        limit = fid_infinity(generated, reference, value.stderr)
        assert limit.value < value.value and limit.stderr >= value.stderr and "R^2" in limit.note
        small.append(value.value - closed)
        far.append(limit.value - closed)
    error = np.std(small) / math.sqrt(6) + 0.02
    assert abs(np.mean(far)) < 3 * error and abs(np.mean(far)) < 0.35 * np.mean(small)


def test_fid_at_infinite_n_says_how_well_the_line_fits():
    note = fid_infinity(normal(2000, 16), normal(2000, 16, seed=1)).note
    assert 0.9 < float(note.split()[1]) <= 1 and "15 subset sizes" in note


def test_fid_at_infinite_n_is_seeded():
    a, b = normal(300, 8), normal(300, 8, seed=1)
    assert fid_infinity(a, b) == fid_infinity(a, b)
    assert len({fid_infinity(a, b, seed=seed).value for seed in range(4)}) == 4


def test_fid_at_infinite_n_needs_subsets_of_more_images_than_dimensions():
    reference = normal(500, 30, seed=1)
    refused = fid_infinity(normal(123, 30), reference)
    assert refused.status == "not_enough_samples" and "30 images for 30" in refused.note
    assert fid_infinity(normal(124, 30), reference).status == "ok"
    assert fid_infinity(normal(400, 30), reference[:30]).status == "not_enough_samples"


# all of them


@pytest.mark.parametrize("side", ["generated", "train", "test"])
def test_features_that_are_not_finite_are_refused(side):
    sets = {name: normal(100, 4, seed) for seed, name in enumerate(("generated", "train", "test"))}
    sets[side][17, 2] = math.nan
    with pytest.raises(CorruptData, match="image 17 "):
        if side == "train":
            memorised_share(sets["generated"], sets["train"], sets["test"])
        else:
            neighbour_metrics(sets["generated"], sets["test"])


def test_foreign_classes_have_no_class_metrics_but_an_inception_score():
    sets = [Features(normal(100, 4, seed), normal(100, 3, seed + 9)) for seed in range(3)]
    found = fidelity_measurements(*sets, EvaluationSettings(), dict, no_classes="the classes of toy are not digits'")
    status = {m.metric: m.status for m in found}
    assert status["class_tv"] == status["class_coverage"] == "not_applicable" and status["inception_score"] == "ok"
