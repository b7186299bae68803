"""`genbench calibrate`: every constant is met, and a planted mistake is not."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from genbench.commands import calibrate
from genbench.commands.calibrate import Setup, calibrations, check
from genbench.evaluate import fidelity
from genbench.metrics.value import Value


def failed(group):
    return {found.name for found in calibrate.guarded("group", group) if found.state == "FAIL"}


def test_every_constant_is_met(genbench):
    result = genbench("calibrate", "--device", "cpu", "--data-root", "nowhere", "--json")
    states = {row["name"]: row["state"] for row in result.json}
    assert result.code == 0, [row for row in result.json if row["state"] == "FAIL"]
    assert states.pop("CIFAR-10") == "skipped" and set(states.values()) == {"pass"} and len(states) > 30


def test_lines_and_exit_code_of_a_failure(genbench, monkeypatch):
    groups = {
        "fid_checks": [check("FID of a set with itself", 1.0, 0.0, 1e-6)],
        "kid_checks": [check("KID", None, 0, 1)],
    }
    monkeypatch.setattr(calibrate, "plugin_groups", dict)
    for name in [name for name in vars(calibrate) if name.endswith("_checks")]:
        monkeypatch.setattr(calibrate, name, lambda *_, name=name: iter(groups.get(name, [])))
    result = genbench("calibrate", "--device", "cpu")
    assert result.code == 1 and result.out.count("FAIL") == 2
    assert "FAIL     FID of a set with itself" in result.out and "should be 0" in result.out
    assert genbench("calibrate", "--device", "cpu", "--json").code == 1


def test_a_measured_device_converts_the_compute_of_its_runs(genbench, monkeypatch, runs):
    monkeypatch.setattr(calibrate, "plugin_groups", dict)
    for name in [name for name in vars(calibrate) if name.endswith("_checks")]:
        monkeypatch.setattr(calibrate, name, lambda *_: iter([]))
    result = genbench("calibrate", "--device", "cpu", "--v100", "here.json")
    assert result.code == 0 and "by float32 matrix products" in result.err
    table = genbench("table", runs, "--layout", "cost", "--v100-factor", "here.json")
    assert "by float32 matrix products" in table.out.replace("\n", " ")
    refused = genbench("calibrate", "--device", "cpu", "--v100", "no/where.json")
    assert refused.code == 2 and "no/where.json" in refused.err


def plus(amount):
    """A metric that is off by an amount."""
    return lambda metric: lambda *a, **k: replace(value := metric(*a, **k), value=value.value + amount)


def swapped(metric):
    return lambda *a, **k: metric(*a, **k)[::-1]


def uncentred(metric):
    """Distances of points far from the origin in float32, as without centring."""
    from torch_fidelity.metric_prc import calculate_precision_recall_full as theirs

    return lambda g, r, k=3: tuple(Value(float(v)) for v in theirs(g.float(), r.float(), k))


def halved(metric):
    """A squared distance that lacks a factor of two."""
    return lambda g, r, *a, **k: replace(value := metric(g, r, *a, **k), value=value.value / 2)


MISTAKES = {
    "FID too large": ("fid", plus(1e-3), "fid_checks"),
    "KID too small by half": ("kid", halved, "kid_checks"),
    "KID with a bias": ("kid", plus(0.2), "kid_checks"),
    "IS too large": ("inception_score", plus(1e-3), "score_checks"),
    "precision and recall swapped": ("precision_recall", swapped, "neighbour_checks"),
    "uncentred distances": ("precision_recall", uncentred, "neighbour_checks"),
    "FID not torch-fidelity's": ("fid", plus(1e-4), "equality_checks"),
    "KID not torch-fidelity's": ("kid", plus(1e-4), "equality_checks"),
    "IS not torch-fidelity's": ("inception_score", plus(1e-4), "equality_checks"),
    "precision not torch-fidelity's": ("precision_recall", swapped, "equality_checks"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_in_a_metric_fails(monkeypatch, name):
    metric, mistake, group = MISTAKES[name]
    monkeypatch.setattr(fidelity, metric, mistake(getattr(fidelity, metric)))
    assert failed(getattr(calibrate, group))


@pytest.mark.parametrize("levels", [2.0, 255.0])
def test_another_number_of_levels_fails(monkeypatch, levels):
    def wrong(log_prob, dims, discrete):
        return -log_prob.double() / (dims * math.log(2)) + (0 if discrete else math.log2(levels / 2))

    monkeypatch.setattr(calibrate, "bits_per_dim", wrong)
    assert "bits/dim of the uniform density on [-1, 1)" in failed(calibrate.bits_checks)


def test_rounding_instead_of_the_floor_fails(monkeypatch):
    monkeypatch.setattr(calibrate, "to_uint8", lambda x: ((x + 1) * 128).round().clamp(0, 255).byte())
    assert failed(calibrate.bits_checks)


def test_a_forgotten_log_determinant_fails(monkeypatch):
    from genbench_flow import Flow

    encode = Flow.encode

    def forgetful(self, images, labels=None):
        latents, log_det = encode(self, images, labels)
        return latents, log_det - self.front(images)[1]

    monkeypatch.setattr(Flow, "encode", forgetful)
    assert len(failed(calibrate.plugin_groups()["flow"])) == 3


def test_the_other_posterior_variance_fails(monkeypatch):
    from genbench_ddpm import calibration

    made = calibration.Diffusion

    def exchanged(betas, prediction, variance):
        return made(betas, prediction, "posterior" if variance == "beta" else "beta")

    monkeypatch.setattr(calibration, "Diffusion", exchanged)
    assert len(failed(calibrate.plugin_groups()["diffusion"])) == 2


def test_other_pixels_fail(monkeypatch, digits):
    from genbench.data.dataset import Part

    blurred = np.array(digits.test.images)
    blurred[..., 1:] = (blurred[..., 1:].astype(int) + blurred[..., :-1]) // 2
    spoilt = replace(digits, test=Part(blurred, digits.test.labels))
    monkeypatch.setattr(Setup, "dataset", lambda self, name: spoilt)
    assert "FID of 355 real images of digits" in failed(lambda: calibrate.bundled_checks(Setup(), "digits"))


def test_what_raises_has_failed_and_what_is_absent_is_skipped(monkeypatch):
    def absent(*_):
        raise ImportError("no module of the extractor")
        yield

    def broken(*_):
        yield check("fine", 1.0, 1.0, 0.0)
        raise RuntimeError("broken")

    for name in [name for name in vars(calibrate) if name.endswith("_checks")]:
        monkeypatch.setattr(calibrate, name, lambda *_: iter(()))
    monkeypatch.setattr(calibrate, "bits_checks", absent)
    monkeypatch.setattr(calibrate, "plugin_groups", dict)
    monkeypatch.setattr(calibrate, "kid_checks", broken)
    found = [(row.name, row.state) for row in calibrations(Setup())]
    assert found == [("fine", "pass"), ("KID", "FAIL"), ("bits/dim", "skipped")]


@pytest.mark.parametrize("found", [None, math.nan, math.inf, 1.1])
def test_what_is_no_number_never_passes(found):
    row = check("x", found, 1.0, 0.05)
    assert row.state == "FAIL" and json.dumps(row.as_dict(), allow_nan=False)
    assert check("x", 1.04, 1.0, 0.05).state == "pass"
