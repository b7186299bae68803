"""Known answers, invariances, directions and refusals of FID, KID, inception score, precision and recall."""

import math

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import calculate_precision_recall_full

from genbench.evaluate import fidelity
from genbench.evaluate.fidelity import fid, inception_score, kid, precision_recall
from genbench.metrics import distances, frechet
from genbench.support.errors import CorruptData


def normal(n, d, seed=0, scale=1.0, mean=0.0):
    return mean + scale * torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def exact(n, root, mean=0.0, seed=0):
    """`n` features whose sample mean is `mean` and whose sample covariance is root @ root.T, to rounding."""
    z = normal(n, root.shape[1], seed)
    z = z - z.mean(0)
    z = torch.linalg.solve_triangular(
        torch.linalg.cholesky(torch.cov(z.T).reshape(root.shape[1], -1)), z.T, upper=False
    )
    return (root @ z).T + mean


def rotation(d, seed=0):
    return torch.linalg.qr(normal(d, d, seed))[0]


def eye(d):
    return torch.eye(d, dtype=torch.float64)


def close(got, wanted, tolerance=1e-6):
    assert got.status == "ok" and got.value == pytest.approx(wanted, rel=tolerance, abs=tolerance), got


# FID


def test_fid_of_a_shifted_mean_is_the_squared_distance():
    shift = torch.zeros(16, dtype=torch.float64)
    shift[3] = 3
    close(fid(exact(200, eye(16)), exact(150, eye(16), shift, seed=1)), 9.0)


def test_fid_of_doubled_scale():
    close(fid(exact(200, eye(32)), exact(200, 2 * eye(32), seed=1)), 32.0)


@pytest.mark.parametrize("turn", [eye(8), rotation(8)])
def test_fid_of_diagonal_covariances_in_any_rotation(turn):
    a, b = torch.linspace(0.1, 5, 8, dtype=torch.float64), torch.linspace(7, 0.3, 8, dtype=torch.float64)
    first, second = exact(100, turn @ a.sqrt().diag()), exact(100, turn @ b.sqrt().diag(), seed=1)
    close(fid(first, second), float(((a.sqrt() - b.sqrt()) ** 2).sum()))


def test_fid_of_singular_covariances():
    u, v = eye(32)[:, :1], eye(32)[:, 1:2]
    close(fid(exact(300, u), exact(300, v, seed=1)), 2.0)
    close(fid(exact(300, u), exact(300, eye(32), seed=1)), 31.0)
    close(fid(exact(300, u), exact(300, u, seed=1)), 0.0)


def test_rank_deficient_fid_equals_the_nuclear_norm_formula():
    a, b = normal(50, 128), normal(40, 128, seed=1, scale=2.0, mean=0.1)
    centred = [x - x.mean(0) for x in (a, b)]
    root = torch.linalg.svdvals(centred[0] @ centred[1].T).sum() / math.sqrt(49 * 39)
    traces = sum(float((x**2).sum()) / (len(x) - 1) for x in centred)
    wanted = float(((a.mean(0) - b.mean(0)) ** 2).sum()) + traces - 2 * float(root)
    value = fid(a, b, allow_rank_deficient=True)
    close(value, wanted)
    assert "rank-deficient" in value.note


def test_fid_invariances():
    a, b = normal(300, 12), normal(250, 12, seed=1, scale=1.5, mean=0.3)
    wanted = fid(a, b).value
    order = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    close(fid(a[order], b), wanted, 1e-9)
    close(fid(b, a), wanted, 1e-9)
    close(fid(a + 100, b + 100), wanted)
    close(fid(a @ rotation(12), b @ rotation(12)), wanted, 1e-9)
    close(fid(3 * a, 3 * b), 9 * wanted, 1e-9)


@pytest.mark.parametrize("counts", [(32, 300), (300, 32), (20, 20)])
def test_fid_needs_more_images_than_features(counts):
    a, b = normal(counts[0], 32), normal(counts[1], 32, seed=1)
    refused = fid(a, b)
    assert refused.value is None and refused.status == "not_enough_samples" and "rank" in refused.note
    assert fid(a, b, allow_rank_deficient=True).value > 0
    assert fid(normal(33, 32), normal(33, 32, seed=1)).status == "ok"


def test_fid_of_one_image_is_refused():
    assert fid(normal(1, 4), normal(100, 4), allow_rank_deficient=True).status == "not_enough_samples"


def test_fid_of_constant_images_is_finite():
    reference = exact(200, eye(6), 2.0)
    close(fid(torch.zeros(50, 6, dtype=torch.float64), reference), 6 * 4 + 6)


@pytest.mark.parametrize("shape", [(300, 24), (50, 512)])
def test_fid_of_a_set_with_itself_is_zero(shape):
    a = normal(*shape)
    value = fid(a, a, allow_rank_deficient=True)
    assert 0 <= value.value <= 1e-6 and not math.copysign(1, value.value) < 0


def test_a_negative_fid_is_clamped_and_told(monkeypatch):
    a = normal(100, 4)
    for raw, status in ((-1e-7, "ok"), (-5.0, "failed"), (math.nan, "failed")):
        monkeypatch.setattr(frechet.Frechet, "distance", lambda *_: raw)  # noqa: B023
        value = fid(a, a)
        assert value.status == status and value.value == (0 if status == "ok" else None)
        assert f"{raw:.3g}"[:4] in value.note


def test_fid_of_equal_distributions_falls_with_the_number_of_images():
    values = [
        fid(normal(n, 64, seed=n), normal(n, 64, seed=n + 1), allow_rank_deficient=True).value
        for n in (32, 65, 128, 512, 4096)
    ]
    assert values == sorted(values, reverse=True) and values[0] > 50 and values[-1] < 0.6


def test_fid_is_right_for_features_far_from_the_origin():
    """Means taken in float32 would give 0.026 where 0.021 is right."""
    generator = torch.Generator().manual_seed(0)
    a, b = (1e4 + torch.randn(2000, 8, generator=generator) for _ in range(2))
    near = fid(a.double() - 1e4, b.double() - 1e4).value
    assert fid(a, b).value == pytest.approx(near, rel=1e-6)


def test_fid_equals_torch_fidelity():
    a, b = normal(400, 40), normal(500, 40, seed=1, scale=1.2)
    theirs = fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), False)
    close(fid(a, b), theirs["frechet_inception_distance"], 1e-11)


# KID


def test_kid_equals_the_unbiased_estimate_by_hand():
    a, b = normal(8, 2), normal(9, 2, seed=1, mean=1.0)

    def kernel(x, y):
        return (float(x @ y) / 2 + 1) ** 3

    values, rng = [], np.random.RandomState(7)
    for _ in range(5):
        x, y = a[rng.choice(8, 4, replace=False)], b[rng.choice(9, 4, replace=False)]
        inner = [kernel(s[i], s[j]) for s in (x, y) for i in range(4) for j in range(4) if i != j]
        values.append(sum(inner) / 12 - 2 * sum(kernel(p, q) for p in x for q in y) / 16)
    close(kid(a, b, subsets=5, seed=7), float(np.mean(values)), 1e-12)


def test_kid_is_unbiased_and_may_be_negative():
    values = [kid(normal(60, 4, seed=2 * i), normal(60, 4, seed=2 * i + 1), subsets=10).value for i in range(60)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(len(values)) and min(values) < 0


@pytest.mark.parametrize(("counts", "size"), [((2000, 2500), 1000), ((1999, 2500), 999), ((10, 5000), 5), ((4, 4), 2)])
def test_kid_subsets(counts, size):
    assert fidelity.kid_subset_size(*counts) == size
    value = kid(normal(counts[0], 3), normal(counts[1], 3, seed=1), subsets=2)
    assert value.stderr is None and value.deviation is not None and ("subsets" in value.note) == (size < 1000)
    theirs = kid_features_to_metric(
        normal(counts[0], 3), normal(counts[1], 3, seed=1), kid_subsets=2, kid_subset_size=size, verbose=False
    )
    close(value, theirs["kernel_inception_distance_mean"], 1e-12)


def test_kid_of_too_few_images_is_refused():
    assert kid(normal(3, 2), normal(100, 2)).status == "not_enough_samples"


# inception score


def onehot(n, classes, gap=1000.0):
    return gap * torch.nn.functional.one_hot(torch.arange(n) % classes, classes).double()


def test_inception_score_of_balanced_confident_classes_is_their_number():
    close(inception_score(onehot(1000, 10), splits=1), 10.0)
    shuffled = inception_score(onehot(1000, 10), splits=10)
    assert shuffled.value == pytest.approx(9.518, abs=0.27) and shuffled.stderr == pytest.approx(shuffled.deviation / 3)


def test_inception_score_known_values():
    close(inception_score(torch.zeros(100, 10), splits=1), 1.0)
    rows = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64).log().repeat(50, 1)
    close(inception_score(rows, splits=1), 2 * math.exp(0.9 * math.log(0.9) + 0.1 * math.log(0.1)), 1e-9)
    assert inception_score(rows, splits=1).value == pytest.approx(1.444935, abs=1e-6)


@pytest.mark.parametrize("gap", [700.0, 800.0, 1e5])
def test_inception_score_of_a_collapsed_model_is_one_however_confident(gap):
    logits = torch.zeros(100, 10, dtype=torch.float64)
    logits[:, 2] = gap
    close(inception_score(logits), 1.0, 1e-12)


@pytest.mark.parametrize("scale", [0.1, 3.0, 1000.0])
def test_inception_score_is_between_one_and_the_number_of_classes(scale):
    for seed in range(5):
        assert 1 <= inception_score(normal(97, 7, seed, scale), splits=4).value <= 7


@pytest.mark.parametrize("scale", [5.0, 60.0])
def test_inception_score_equals_torch_fidelity(scale):
    logits = normal(997, 10, scale=scale)
    theirs = isc_features_to_metric(logits, 10, True, 2020)
    value = inception_score(logits, 10, 2020)
    close(value, theirs["inception_score_mean"], 1e-12)
    assert value.deviation == pytest.approx(theirs["inception_score_std"], rel=1e-12)
    assert inception_score(logits, 10, 2021).value != value.value


def test_inception_score_refusals():
    assert inception_score(onehot(9, 3), splits=10).status == "not_enough_samples"
    assert inception_score(torch.zeros(100, 1), splits=1).status == "not_applicable"


# precision and recall


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def both(generated, reference, k=3):
    precision, recall = precision_recall(generated, reference, k)
    return precision.value, recall.value


def test_precision_recall_by_hand():
    assert both(column(0.5, 10, 11), column(0, 1, 2, 3), k=1) == pytest.approx((1 / 3, 1.0))
    assert both(column(2, 2.0001, 50), column(0, 1), k=1) == pytest.approx((1 / 3, 0.0))


def test_precision_recall_of_a_set_with_itself_is_one():
    a = normal(300, 16)
    shuffled = a[torch.randperm(300, generator=torch.Generator().manual_seed(1))]
    assert both(a, a) == both(shuffled, a) == (1.0, 1.0)
    fivefold = a.repeat(5, 1)[torch.randperm(1500, generator=torch.Generator().manual_seed(2))]
    assert both(fivefold, a) == both(fivefold, fivefold[torch.randperm(1500)]) == (1.0, 1.0)
    assert both(torch.full((300, 16), 0.3), torch.full((300, 16), 0.3)) == (1.0, 1.0)


def test_a_collapsed_model_has_precision_and_no_recall():
    reference = normal(500, 8)
    precision, recall = both(0.05 * normal(500, 8, seed=1), reference)
    assert precision > 0.8 and recall < 0.3
    assert both(reference, 0.05 * normal(500, 8, seed=1)) == (recall, precision)


@pytest.mark.parametrize(("offset", "dtype"), [(1e4, torch.float32), (1e4, torch.float64), (1e8, torch.float64)])
def test_a_common_offset_changes_nothing(offset, dtype):
    """torch.cdist cancels here: at 1e4 in float32, at 1e8 in float64, and only with more than 25 points."""
    a, b = ((normal(300, 16, seed) * 64).round() / 64 for seed in (0, 1))
    wanted = both(a, b)
    assert 0.5 < wanted[0] < 1 and 0.5 < wanted[1] < 1
    assert both((a + offset).to(dtype), (b + offset).to(dtype)) == wanted


def test_a_tight_reference_far_from_the_origin_admits_no_wide_samples():
    assert both(10 * normal(300, 16) + 1e4, normal(300, 16, seed=1) * 0.1 + 1e4)[0] == 0.0


@pytest.mark.parametrize("block", [7, 100, 10_000])
def test_precision_recall_equals_torch_fidelity_in_blocks_of_any_size(block, monkeypatch):
    monkeypatch.setattr(distances, "ROWS", block)
    a, b = normal(400, 32), normal(400, 32, seed=1, scale=0.9)
    theirs = calculate_precision_recall_full(a, b, 3)
    assert 0 < theirs[0] < 1 and 0 < theirs[1] < 1
    assert both(a, b) == pytest.approx(theirs, rel=1e-6, abs=1e-9)


def test_precision_recall_of_too_few_images_is_refused():
    for value in precision_recall(normal(3, 2), normal(10, 2), 3):
        assert value.status == "not_enough_samples"
    assert precision_recall(normal(4, 2), normal(10, 2), 3)[0].status == "ok"


# all metrics


@pytest.mark.parametrize("metric", [fid, kid, lambda a, b: precision_recall(a, b), lambda a, b: inception_score(a)])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("index", [0, 50, 99])
def test_features_that_are_not_finite_are_refused_by_index(metric, bad, index):
    a, b = normal(100, 4), normal(100, 4, seed=1)
    a[index, 2] = bad
    with pytest.raises(CorruptData, match=rf"generated.* {index} "):
        metric(a, b)


def test_more_noise_is_worse_in_every_metric():
    reference = normal(400, 8)
    sets = [normal(400, 8, seed=1) + noise * normal(400, 8, seed=2) for noise in (0.0, 0.5, 1.0, 2.0)]
    for metric in (fid, kid):
        values = [metric(x, reference).value for x in sets]
        assert values == sorted(values)
    precisions = [both(x, reference)[0] for x in sets]
    assert precisions == sorted(precisions, reverse=True) and precisions[0] > precisions[-1] + 0.3
    scores = [inception_score(onehot(400, 8, 6.0) + noise * normal(400, 8)).value for noise in (0.0, 2.0, 4.0)]
    assert scores[0] > scores[-1]
