"""The ruler: real images spoilt in rising strength, and which metrics see it."""

import json

import numpy as np
import pytest

from genbench.evaluate import ladder
from genbench.evaluate.controls import CONTROLS, COPIES, HALVES, LOSSES, NOISE, REAL, leave_out
from genbench.evaluate.extractor import Extractor
from genbench.evaluate.held_out import held_out, held_out_first
from genbench.evaluate.verdicts import FID_OF_HALVES, judge
from genbench.metrics import metrics
from genbench.metrics.metric import Metric
from genbench.records.protocol import EvaluationSettings
from genbench.records.ruler import Rung

CONTROL = {control.name: control for control in CONTROLS}


def spoilt(name, strength, images):
    return CONTROL[name].spoil(images, strength, np.random.default_rng(1))


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 3, 16, 12), dtype=np.uint8)


# controls


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_a_control_gives_as_many_images_and_the_same_again(control, images):
    for strength in control.strengths:
        found = spoilt(control.name, strength, images)
        assert found.shape == images.shape and found.dtype == np.uint8
        assert np.array_equal(found, spoilt(control.name, strength, images))
        assert not np.array_equal(found, images)
    assert list(control.strengths) == sorted(control.strengths)


@pytest.mark.parametrize(
    "control", [c for c in CONTROLS if c.loss == "fidelity" and c.name != "JPEG"], ids=lambda c: c.name
)
def test_more_of_a_control_takes_images_further_away(control, images):
    smooth = spoilt("blur", 0.2, images)
    changes = [
        np.abs(spoilt(control.name, strength, smooth if control.name != "blur" else images).astype(int) - images).mean()
        for strength in control.strengths
    ]
    assert control.name == "shuffled pixels" or changes == sorted(changes)


def test_what_controls_do(images):
    assert np.array_equal(np.sort(spoilt("shuffled pixels", 1.0, images), axis=None), np.sort(images, axis=None))
    gray = spoilt("contrast", 1.0, images)
    assert set(np.unique(gray)) <= {127, 128}
    assert len(np.unique(spoilt("repeats", 10, images), axis=0)) == 4
    assert (spoilt("mean image", 1.0, images) == np.rint(images.mean(0))).all()
    covered = (spoilt("occlusion", 0.25, images) == 128).all(1).mean()
    assert covered == pytest.approx(0.25, abs=0.03)
    flat = np.full_like(images, 77)
    assert (spoilt("blur", 0.2, flat) == 77).all()
    noisy = spoilt("added noise", 30, np.full_like(images, 128))
    assert noisy.std() == pytest.approx(30, rel=0.05)
    assert leave_out(np.arange(10).repeat(2), 10, 0.5).tolist() == list(range(10))


# verdicts


LADDERS = [name for name, loss in LOSSES.items() if loss == "fidelity"]
GOOD = Metric("good", "good", "higher", "share", sees="fidelity")


def rungs(values=None, error=0.01, metric="good"):
    """The rungs of a metric that sees everything, but for these values of single rungs."""
    steps = {(REAL, ""): 0.9, (NOISE, "uniform"): 0.0, ("pixelwise Gaussian", "independent pixels"): 0.05}
    for name in LADDERS:
        steps |= {(name, "weak"): 0.8, (name, "strong"): 0.4}
    for name in ("repeats", "classes left out"):
        steps |= {(name, "weak"): 0.9, (name, "strong"): 0.9}
    found = []
    for (control, strength), value in (steps | (values or {})).items():
        errors = {metric: error} if error is not None else {}
        found.append(Rung(control=control, strength=strength, values={metric: value}, errors=errors))
    return found


def verdict(metric=GOOD, **changes):
    return judge(rungs(metric=metric.name, **changes), [metric])[metric.name]


def test_a_metric_that_sees_everything_may_rank():
    assert verdict() == ""
    assert verdict(error=None) == ""


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({(NOISE, "uniform"): 0.98}, "uniform noise scores 0.980, held-out real images 0.900"),
        ({(NOISE, "uniform"): 0.85}, "uniform noise scores 0.850, better than real images with blur (weak), 0.800"),
        ({("blur", "weak"): 0.95}, "real images with blur (weak) score 0.950, better than without, 0.900"),
        ({("JPEG", "strong"): 0.86}, "JPEG improves it, from 0.800 at weak to 0.860 at strong"),
        ({("JPEG", "strong"): 0.89, ("JPEG", "weak"): 0.89}, "it hardly sees JPEG (strong): 0.890, and 0.900 without"),
    ],
)
def test_what_a_blind_metric_is_told(values, words):
    assert verdict(values=values) == words
    assert verdict(values=values, error=1.0) != "" or "hardly" not in words


def test_differences_within_the_error_are_none():
    assert verdict(values={("blur", "weak"): 0.92}) == ""
    assert "better than without" in verdict(values={("blur", "weak"): 0.92}, error=0.001)


def test_each_metric_must_see_what_it_is_for():
    """Precision need not fall when classes are missing; recall and FID must."""
    missing = {("classes left out", ""): 0.9, ("classes left out", "half"): 0.5, ("repeats", "strong"): 0.3}
    for sees, wanted in (("fidelity", ""), ("diversity", ""), ("everything", "")):
        assert verdict(Metric("m", "m", "higher", sees=sees), values=missing) == wanted
    blind = {("classes left out", ""): 0.9}
    assert verdict(Metric("m", "m", "higher", sees="fidelity"), values=blind) == ""
    for sees in ("diversity", "everything", "classes"):
        assert "hardly sees" in verdict(Metric("m", "m", "higher", sees=sees), values=blind)


def test_lower_is_better_for_distances():
    worse = Metric("d", "d", "lower", "fid", sees="fidelity")
    values = {(r.control, r.strength): 100 * (1 - r.values["good"]) for r in rungs()}
    assert verdict(worse, values=values, error=1.0) == ""
    assert "uniform noise scores 9.00" in verdict(worse, values=values | {(NOISE, "uniform"): 9.0}, error=1.0)


def test_the_halves_of_the_test_images_must_be_nearest():
    metric = Metric("fid_test", "FID", "lower", "fid", sees="fidelity")
    good = rungs({(r.control, r.strength): 100 * (1 - r.values["good"]) for r in rungs()}, 1.0, "fid_test")
    far = [r.model_copy(update={"values": r.values | {FID_OF_HALVES: r.values["fid_test"] + 5}}) for r in good]
    halves = Rung(control=HALVES, strength="", values={FID_OF_HALVES: 6.0})
    assert judge([*far, halves], [metric]) == {"fid_test": ""}
    halves = Rung(control=HALVES, strength="", values={FID_OF_HALVES: 70.0})
    assert "nearer to half of the test images" in judge([*far, halves], [metric])["fid_test"]


def test_other_metrics_share_a_verdict_and_some_have_none():
    others = [
        GOOD,
        Metric("twin", "twin", judged_as="good"),
        Metric("free", "free"),
        Metric("lost", "l", sees="fidelity"),
    ]
    assert judge(rungs(), others) == {"good": "", "twin": ""}
    assert judge(rungs(), others, "no ruler") == {"good": "no ruler", "twin": "no ruler"}


def test_a_share_of_copies_is_tried_on_copies_and_noise():
    metric = Metric("m", "m", sees="copies")

    def told(half, copies, noise):
        found = [(HALVES, half), (COPIES, copies), (NOISE, noise)]
        return judge([Rung(control=c, strength="", values={"m": v}, errors={"m": 0.01}) for c, v in found], [metric])[
            "m"
        ]

    assert told(0.05, 1.0, 0.0) == ""
    assert told(0.05, 0.06, 0.0) == "copies of training images score 0.060, held-out ones 0.050"
    assert told(0.05, 1.0, 0.14) == "uniform noise scores 0.140, held-out real images 0.050"


def test_every_metric_of_features_is_tried():
    for metric in metrics().values():
        if metric.family == "fidelity" and metric.split:
            assert metric.sees or metric.judged_as, metric.name
        assert not metric.judged_as or metrics()[metric.judged_as].sees


# ladders


def pixels(levels):
    import torch.nn.functional as F

    small = F.avg_pool2d(levels.float() / 128 - 1, 2).flatten(1)
    return small, None


def blind(levels):
    """Sees how bright an image is, and nothing else."""
    bright = levels.float().mean((1, 2, 3))
    return bright[:, None] * bright.new_tensor([1.0, -0.5, 0.25]) + bright.frac()[:, None], None


def tried(network, dim, data, cache, count=120, **extra):
    own = Extractor(network.__name__, network, dim, 0, {"layer": "pixels"}, **extra)
    return ladder.ruler_of(own, data, count, EvaluationSettings(), cache)


def test_a_blind_extractor_is_found_out(digits, tmp_path):
    ruler = tried(blind, 3, digits, tmp_path)
    assert ruler.images == 120 and ruler.reference_images == len(digits.test)
    assert all(ruler.verdicts[name] for name in ("fid_test", "kid_test", "precision", "coverage")), ruler.verdicts
    assert ruler.verdicts["fid_train"] == ruler.verdicts["fid_test"]
    assert {rung.control for rung in ruler.rungs} == {REAL, HALVES, COPIES, *LOSSES}


def test_one_that_sees_is_admitted_and_remembered(digits, tmp_path, monkeypatch):
    ruler = tried(pixels, 16, digits, tmp_path)
    assert ruler.verdicts["fid_test"] == ruler.verdicts["memorised_share"] == "", ruler.verdicts
    real, noise = (next(r for r in ruler.rungs if r.control == name).values for name in (REAL, NOISE))
    assert noise["fid_test"] > 10 * real["fid_test"] and noise["coverage"] < real["coverage"] / 2
    copies = next(r for r in ruler.rungs if r.control == COPIES).values
    assert copies["memorised_share"] == 1.0
    monkeypatch.setattr(ladder.Ladder, "ruler", lambda self: pytest.fail("made again"))
    assert tried(pixels, 16, digits, tmp_path) == ruler
    assert tried(pixels, 16, digits, tmp_path, batch=7) == ruler
    with pytest.raises(pytest.fail.Exception, match="made again"):
        tried(pixels, 16, digits, tmp_path, count=60)


def test_what_a_classifier_was_trained_on_is_no_control(digits):
    """Held-out images are a quarter of a small set, come first, and are all that a local classifier is tried on."""
    kept = held_out(digits)
    assert len(kept) == round(len(digits.train) / 4) and np.array_equal(kept, held_out(digits))
    order, unseen = held_out_first(digits, 2020)
    assert unseen == len(kept) and set(order[:unseen]) == set(kept)
    assert sorted(order) == list(range(len(digits.train)))
    own = Extractor("local", pixels, 16, 0, {}, about={"classes": 10})
    assert set(ladder.Ladder(own, digits, 10_000, EvaluationSettings(), None).pool) == set(kept)
    other = Extractor("other", pixels, 16, 0, {})
    assert len(ladder.Ladder(other, digits, 10_000, EvaluationSettings(), None).pool) == len(digits.train)


# commands


def test_the_check_from_the_command_line(genbench):
    result = genbench("extractors", "--check", "-d", "digits", "--samples", "200", "--device", "cpu", "--json")
    assert result.code == 0, result.err
    (ruler,) = result.json
    assert (ruler["extractor"], ruler["images"]) == ("digits-classifier-v1", 200)
    assert ruler["verdicts"]["fid_test"] == "" and len(ruler["rungs"]) > 25
    text = genbench("extractors", "--check", "-d", "digits", "--samples", "200", "--device", "cpu")
    assert "FID test" in text.out and max(map(len, text.out.splitlines())) <= 80
    for words in (["--check"], ["--check", "-d", "digitz"], ["--check", "-d", "digits", "--extractor", "nope"]):
        result = genbench("extractors", *words)
        assert result.code == 2 and "Traceback" not in result.err


def test_records_keep_the_verdicts_and_the_floor_the_rungs(finished_runs):
    found = {}
    for file in finished_runs.glob("*/record.json"):
        record = json.loads(file.read_text())
        found[record["job"]["model"]] = record["rulers"]["digits-classifier-v1"]
    assert found["real"]["rungs"] and not found["mine"]["rungs"]
    assert found["real"]["verdicts"] == found["mine"]["verdicts"] == found["noise"]["verdicts"]
