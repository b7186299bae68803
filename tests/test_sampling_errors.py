"""Errors within a run: as large as the spread over fresh draws, for every metric that has one."""

import math

import numpy as np
import pytest
import torch

from genbench.evaluate.fidelity import fid, inception_score, kid
from genbench.metrics.classes import class_metrics
from genbench.metrics.frechet import fid_infinity, fid_of_pairs
from genbench.metrics.jackknife import jackknife_error, members
from genbench.metrics.memorisation import memorised_share
from genbench.metrics.neighbours import neighbour_metrics
from genbench.metrics.value import Value, share, with_error

DRAWS = 50


def normal(generator, n, d, scale=1.0, mean=0.0):
    return mean + scale * torch.randn(n, d, dtype=torch.float64, generator=generator)


def all_metrics(generated, reference):
    first = fid(generated, reference, error_splits=10)
    found = {"fid": first, "kid": kid(generated, reference, 40, error=True)}
    found["infinity"] = fid_infinity(generated, reference, first.stderr)
    return found | neighbour_metrics(generated, reference[: len(generated)], 3, 10)


def ratios(draw, measure):
    """For each metric the mean standard error over the standard deviation of the values of fresh draws."""
    found = [measure(draw()) for _ in range(DRAWS)]
    spread = {name: np.std([f[name].value for f in found], ddof=1) for name in found[0]}
    return {name: math.sqrt(np.mean([f[name].stderr ** 2 for f in found])) / spread[name] for name in spread}


@pytest.mark.parametrize(
    ("scale", "mean", "grid"),
    [(1.0, 0.0, 0), (1.0, 0.3, 0), (0.7, 0.0, 0), (1.0, 0.3, 2)],
    ids=["same", "shifted", "narrow", "many ties"],
)
def test_errors_are_the_spread_over_fresh_draws(scale, mean, grid):
    """On a coarse grid half of the images are copies of others: a bootstrap would find neighbours at distance 0.

    Where model and data are the same, FID has no linear part, and its error comes out too large.
    """
    generator = torch.Generator().manual_seed(0)

    def placed(x):
        return (x * grid).round() / grid if grid else x

    d = 3 if grid else 8
    reference = placed(normal(generator, 600, d))
    found = ratios(lambda: placed(normal(generator, 300, d, scale, mean)), lambda x: all_metrics(x, reference))
    assert all(0.65 < ratio < (2.4 if grid else 1.75) for ratio in found.values()), found


@pytest.mark.parametrize("count", [30, 60, 120], ids=["rank-deficient", "halves rank-deficient", "full rank"])
def test_errors_of_fid_are_that_spread_however_few_the_images(count):
    generator, d = torch.Generator().manual_seed(0), 48
    deviations = 1 / torch.arange(1, d + 1, dtype=torch.float64)
    reference = normal(generator, 300, d) * deviations

    def measure(x):
        blurred = 0.7 * x + 0.1 * normal(generator, count, d) * deviations
        return {
            "fid": fid(x, reference, allow_rank_deficient=True, error_splits=10),
            "pairs": fid_of_pairs(blurred, x, allow_rank_deficient=True, error_splits=10),
        }

    found = ratios(lambda: normal(generator, count, d, mean=0.3) * deviations, measure)
    assert all(0.7 < ratio < 1.75 for ratio in found.values()), found


def test_errors_of_class_metrics_and_shares_are_the_spread_over_fresh_draws():
    generator = torch.Generator().manual_seed(0)
    reference = normal(generator, 600, 6, 3.0)
    train, held_out = normal(generator, 400, 6, 3.0), normal(generator, 400, 6, 3.0)

    def measure(x):
        found = class_metrics(x, reference)
        return {
            "tv": found["class_tv"],
            "score": inception_score(x, 5),
            "memorised": memorised_share(x, train, held_out),
        }

    found = ratios(lambda: normal(generator, 300, 6, 3.0, torch.linspace(0, 3, 6, dtype=torch.float64)), measure)
    assert all(0.7 < ratio < 1.4 for ratio in found.values()), found


def test_the_interval_holds_the_truth_about_nineteen_times_in_twenty():
    generator = torch.Generator().manual_seed(0)
    reference = normal(generator, 300, 4)
    draws = [neighbour_metrics(normal(generator, 300, 4, 1.3), reference, 3, 10) for _ in range(60)]
    for name in ("precision", "recall", "density", "coverage", "two_sample"):
        centre = np.mean([draw[name].value for draw in draws])
        held = np.mean([draw[name].interval[0] <= centre <= draw[name].interval[1] for draw in draws])
        assert held > 0.85, (name, held)


@pytest.mark.parametrize("groups", [2, 3])
def test_subsets_leave_every_image_out_once_and_repeat_none(groups):
    for count in (10, 11):
        kept = members(count, 6, groups, 0)
        assert kept.shape == (count, 6 * groups) and kept.dtype == torch.bool
        assert ((~kept).reshape(count, 6, groups).sum(2) == 1).all()
        assert set((~kept).sum(0).tolist()) <= {count // groups, -(-count // groups)}
    assert not torch.equal(members(10, 6, groups, 0), members(10, 6, groups, 1))


@pytest.mark.parametrize("groups", [2, 3])
def test_the_error_of_a_mean_is_its_standard_error(groups):
    x = torch.randn(500, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).exp()
    kept = members(500, 2000, groups, 0).double()
    error = jackknife_error((x @ kept) / kept.sum(0), groups)
    assert error == pytest.approx(float(x.std()) / math.sqrt(500), rel=0.05)


def test_errors_do_not_change_the_values():
    generator = torch.Generator().manual_seed(0)
    a, b = normal(generator, 200, 4), normal(generator, 300, 4)
    assert fid(a, b).value == fid(a, b, error_splits=5).value and kid(a, b).value == kid(a, b, error=True).value
    plain, more = neighbour_metrics(a, b), neighbour_metrics(a, b, error_splits=5)
    assert all(plain[name].value == more[name].value for name in plain)
    assert plain["recall"].stderr is None and plain["two_sample"].stderr is None and more["recall"].stderr > 0


def test_too_few_images_give_no_error():
    generator = torch.Generator().manual_seed(0)
    few, reference = normal(generator, 3, 2), normal(generator, 300, 2)
    value = fid(few, reference, error_splits=5)
    assert value.status == "ok" and value.stderr is None
    assert neighbour_metrics(normal(generator, 6, 2), normal(generator, 6, 2), 3, 5)["recall"].stderr is None


def test_intervals():
    assert with_error(Value(1.0), 0.5).interval == pytest.approx((1 - 0.98, 1 + 0.98), abs=1e-3)
    assert with_error(Value(1.0), 0.5, 4).interval == pytest.approx((1 - 2.776 / 2, 1 + 2.776 / 2), abs=1e-3)
    assert with_error(Value(0.9), 0.5, low=0, high=1).interval == (0, 1)
    none = share(0, 100)
    assert none.stderr == 0 and none.interval == pytest.approx((0, 0.0362), abs=1e-4)
    assert share(50, 100).interval == pytest.approx((0.398, 0.602), abs=1e-3)


def test_the_error_of_kid_equals_its_definition():
    generator = torch.Generator().manual_seed(0)
    a, b = normal(generator, 60, 5), normal(generator, 80, 5, mean=0.5)
    own, cross = ((a @ other.T / 5 + 1) ** 3 for other in (a, b))
    gradient = 2 * ((own.sum(1) - own.diagonal()) / 59 - cross.mean(1))
    value = kid(a, b, 30, error=True)
    assert value.stderr**2 == pytest.approx(float(gradient.var()) / 60 + value.deviation**2 / 30)
