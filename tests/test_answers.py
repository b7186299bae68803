"""How samples answer a condition: the metrics by hand, the exact posterior against Bayes, the order of rows."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from genbench.condition import EACH
from genbench.data.condition_plan import ConditionPlan
from genbench.data.dataset import Part
from genbench.data.entries import known_datasets
from genbench.data.folders import data_root
from genbench.data.mixture import Mixture
from genbench.data.observations import SmallObservation
from genbench.data.posterior import ROUNDING, Posterior, seen_small, seen_through
from genbench.data.preparation import prepare
from genbench.evaluate.answers import of_others, values_of
from genbench.metrics.answers import (
    CONSISTENCY,
    DISPERSION,
    ENERGY,
    HOLE_PSNR,
    KNOWN,
    PSNR,
    SPREAD,
    SPREAD_RATIO,
    Answers,
    seam,
)
from genbench.records.samples import Samples
from genbench.records.slots import Slot
from genbench.running.answers import ANSWERS, VALUES, answers_of, classes_of, followings, nearest
from genbench.tables.layout import Cell, Column, Row
from genbench.tables.layouts.condition import LAYOUT

KINDS = ("calibration-hole", "calibration-4x")


@pytest.fixture(scope="module", params=KINDS)
def task(request, session_cache):
    return prepare(known_datasets()[request.param], data_root(None), offline=True)


def kind_of(data):
    return data.conditions[0].kind


def psnr_of(data):
    return HOLE_PSNR if kind_of(data) == "hole" else PSNR


def measured(data, name, count=2000):
    """The metrics of a row without a model, with their errors."""
    kind = kind_of(data)
    places = ConditionPlan.of(data, kind, count).numbers
    samples = Samples(ANSWERS[name](data, kind, places, 0), conditions=places)
    return values_of(samples, data, kind, 0)


def answered(data, name):
    return {metric: value.value for metric, value in measured(data, name).items()}


# By hand


def test_the_metrics_of_two_samples_by_hand():
    """Hidden are the last two of three values; distances are root mean squares over them."""
    samples, originals = np.array([[[9, 3, 4], [5, 0, 0]]], np.uint8), np.array([[5, 0, 0]], np.uint8)
    hidden = np.array([[False, True, True]])
    answers = Answers(samples, originals, hidden)
    rms = 5 / math.sqrt(2)
    assert answers.errors == pytest.approx(np.array([[rms, 0.0]])) and answers.apart == pytest.approx(np.array([[rms]]))
    assert answers.energy_score().value == pytest.approx(rms / 2 - rms / 2)
    assert answers.psnr().value == pytest.approx(10 * math.log10(255**2 / (rms**2 / 2)))
    found = answers.spread(known=np.array([4 * rms**2]))
    assert found[SPREAD].value == pytest.approx(rms) and found[SPREAD_RATIO].value == pytest.approx(0.5)
    assert found[DISPERSION].value == pytest.approx(math.sqrt(2))
    assert answers.known_pixel_error().value == pytest.approx(2.0)


def test_small_images_that_are_means_are_asked_for_and_others_are_not():
    """Four pixels as one and two as the other; what is made small is rounded as what was given is."""

    def small(images):
        return np.stack([np.rint(images[:, :4].mean(1)), np.rint(images[:, 4:].mean(1))], axis=1)

    originals = np.array([[0, 0, 0, 1, 8, 8]], np.uint8)
    samples = np.array([[[0, 1, 0, 0, 7, 9], [12, 12, 12, 13, 24, 24]]], np.uint8)
    answers = Answers(samples, originals, np.ones((1, 6), bool))
    assert answers.consistency(small, np.array([[0, 8]])).value == pytest.approx(math.sqrt((12**2 + 16**2) / 2) / 2)
    assert answers.consistency(small, np.array([[3, 8]])).status == "not_applicable"


def test_images_are_consistent_with_their_own_small_ones_whatever_the_factor():
    """Where 1 / factor^2 is no binary fraction, a mean may be half a level but for rounding."""
    images = np.random.default_rng(0).integers(0, 256, (300, 3, 12, 24), dtype=np.uint8)
    made = SmallObservation(kind="image", factor=6)
    part = Part(images, None, {"image": {"image": made.of(images, "test")}})
    data = SimpleNamespace(test=part, law_given=lambda kind: None)
    places = np.repeat(np.arange(300), EACH)
    found = values_of(Samples(images[places], conditions=places), data, "image", 0)
    assert found[CONSISTENCY].value == 0


def test_conditions_that_are_used_again_count_once_in_errors():
    random = np.random.default_rng(0)
    originals = random.normal(128, 20, (100, 8))
    samples = random.normal(128, 20, (100, 4, 8))
    hidden, places = np.ones((100, 8), bool), np.arange(100)
    once = Answers(samples, originals, hidden, places)
    again = [np.concatenate([array] * 3) for array in (samples, originals, hidden, places)]
    thrice = Answers(*again)
    for one, three in ((once.energy_score(), thrice.energy_score()), (once.psnr(), thrice.psnr()),
                       (once.spread()[SPREAD], thrice.spread()[SPREAD])):  # fmt: skip
        assert three.value == pytest.approx(one.value) and three.stderr == pytest.approx(one.stderr)
    assert Answers(*again[:3]).energy_score().stderr < 0.6 * thrice.energy_score().stderr


@pytest.mark.parametrize("count", [4, 16, 21, 2000])
def test_shuffled_images_are_several_and_never_the_own_one(task, count):
    places = ConditionPlan.of(task, kind_of(task), count).numbers
    others = of_others(task, kind_of(task), places)
    assert (others != places).all() and len(set(others[:4])) == 4


def test_one_sample_has_no_spread_and_the_original_no_psnr():
    one = Answers(np.zeros((3, 1, 4)), np.zeros((3, 4)), np.ones((3, 4), bool))
    assert one.spread()[SPREAD].status == one.energy_score().status == one.psnr().status == "not_applicable"


def test_samples_distributed_as_the_original_are_as_far_from_each_other_and_score_best():
    random = np.random.default_rng(0)
    originals, hidden = random.normal(128, 20, (4000, 16)), np.ones((4000, 16), bool)
    scores, ratios = {}, {}
    for name, width in (("narrow", 10), ("right", 20), ("wide", 40)):
        answers = Answers(random.normal(128, width, (4000, 4, 16)), originals, hidden)
        scores[name], ratios[name] = answers.energy_score().value, answers.spread()[DISPERSION].value
    assert min(scores, key=scores.get) == "right"
    assert ratios["narrow"] < 0.7 and ratios["right"] == pytest.approx(1, abs=0.01) and ratios["wide"] > 1.2


def test_errors_are_those_of_other_conditions():
    random, found = np.random.default_rng(0), {PSNR: [], ENERGY: [], SPREAD: [], DISPERSION: []}
    for _ in range(60):
        originals = random.normal(128, 20, (100, 8)) * random.uniform(0.5, 1.5, (100, 1))
        answers = Answers(random.normal(128, 20, (100, 4, 8)), originals, np.ones((100, 8), bool))
        for name, value in {PSNR: answers.psnr(), ENERGY: answers.energy_score(), **answers.spread()}.items():
            found[name].append((value.value, value.stderr))
    for name, pairs in found.items():
        values, errors = np.array(pairs).T
        assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.3), name


# The exact posterior


def test_the_posterior_is_that_of_bayes_on_a_grid():
    means, modes = np.array([[100.0, 120.0], [140.0, 90.0]]), np.array([[[8.0], [12.0]], [[10.0], [-6.0]]])
    mixture, seen = Mixture(means, modes, 7.0), np.array([[1.0, 0.0]])
    posterior, value = Posterior(mixture.means, mixture.covariances, seen), 121.0
    grid = np.linspace(0, 255, 20001)
    density = 0
    for mean, covariance in zip(mixture.means, mixture.covariances):
        covariance = covariance + np.diag([ROUNDING, 0])
        density = density + multivariate_normal(mean, covariance).pdf(np.stack([np.full_like(grid, value), grid], 1))
    density = density / density.sum()
    mean, square = (density * grid).sum(), (density * grid**2).sum()
    values = np.full((40000, 1), value)
    assert posterior.mean(values[:1])[0, 1] == pytest.approx(mean, abs=1e-3)
    drawn = posterior.draw(values, np.random.default_rng(0))
    assert drawn[:, 1].mean() == pytest.approx(mean, abs=5 * drawn[:, 1].std() / 200)
    assert drawn[:, 1].std() == pytest.approx(math.sqrt(square - mean**2), rel=0.03)
    assert np.abs(drawn[:, 0] - value).max() < 6 * math.sqrt(ROUNDING)


def test_what_is_seen_as_matrices():
    holes = np.array([[True, False, False], [False, True, True], [True, False, False]])
    found = {tuple(mine): matrix.tolist() for mine, matrix in seen_through(holes)}
    assert found == {(0, 2): [[0, 1, 0], [0, 0, 1]], (1,): [[1, 0, 0]]}
    image = np.arange(16.0).reshape(1, 4, 4)
    assert (seen_small((1, 4, 4), (1, 2, 2)) @ image.ravel()).tolist() == [2.5, 4.5, 10.5, 12.5]


def test_the_known_limits(task):
    """The PSNR of the best answer and of an honest one, which is 3 dB lower: it has twice the error."""
    limits = {"calibration-hole": (32.2, 29.2, 16.7), "calibration-4x": (30.7, 27.3, 16.4)}[task.name]
    found = [answered(task, name)[psnr_of(task)] for name in ("mean", "posterior", "shuffled")]
    assert found == pytest.approx(limits, abs=0.25)


def test_rows_that_need_no_model_stand_in_the_order_of_what_they_know(task):
    found = {name: answered(task, name) for name in answers_of(task, kind_of(task))}
    energy = {name: values[ENERGY] for name, values in found.items()}
    assert energy["posterior"] < energy["neighbour"] < energy["shuffled"] and energy["posterior"] < energy["mean"]
    assert found["posterior"][DISPERSION] == pytest.approx(1, abs=0.02) and found["mean"][SPREAD] == 0
    assert found["original"][psnr_of(task)] is None and found["original"][SPREAD] == 0
    if kind_of(task) == "hole":
        assert found["posterior"][KNOWN] == found["original"][KNOWN] == 0 < found["neighbour"][KNOWN]
    else:
        assert found["original"][CONSISTENCY] == 0 < found["posterior"][CONSISTENCY] < 0.3
        assert 0.5 < found["neighbour"][CONSISTENCY] < found["shuffled"][CONSISTENCY]


def test_the_known_spread_is_that_of_the_posterior(task):
    ratio = measured(task, "posterior")[SPREAD_RATIO]
    assert abs(ratio.value - 1) < 3 * ratio.stderr < 0.15


def test_neighbours_are_nearest_in_what_is_shown(task):
    kind, places = kind_of(task), np.arange(20)
    found = nearest(task, kind, places, 3)
    if kind == "hole":
        shown = ~task.test.conditions["hole"]["hole"][0, 0]
        seen = [part.images[..., shown] for part in (task.test, task.train)]
    else:
        seen = [part.conditions["image"]["image"] for part in (task.test, task.train)]
    here, there = (values.reshape(len(values), -1).astype(float) for values in seen)
    for place, three in zip(places, found):
        distance = np.square(there - here[place]).sum(1)
        assert sorted(distance)[:3] == distance[three].tolist()


def test_texts_are_alike_in_their_words_however_short_they_are():
    """An end is followed by nothing that would make all short texts alike; the first has two words of the second."""
    texts = np.zeros((4, 32), np.int32)
    texts[0, :3], texts[1, :7], texts[2, :3] = (5, 6, 7), (5, 6, 8, 9, 3, 4, 2), (10, 11, 12)
    found = followings(texts)
    assert np.linalg.norm(found, axis=1).tolist() == pytest.approx([1, 1, 1, 0])
    likeness = found @ found.T
    assert likeness[0, 1] == pytest.approx(3 / math.sqrt(6 * 14)) and likeness[0, 2] == 0
    longer = np.pad(texts, ((0, 0), (0, 40)))
    assert (followings(longer) == found).all()


def test_a_model_nearer_to_the_images_than_the_exact_answers_is_marked():
    """By its PSNR; one below it, or without the exact rows, is not."""
    column = Column((Slot(PSNR),), "PSNR", ("score",), metric=PSNR)

    def row(name, kind, value):
        return Row(name, name, name, kind, "", {column.key: Cell(value=value)})

    rows = [row("posterior", "posterior", 29.2), row("sharp", "model", 28.0), row("timid", "model", 30.1)]
    (told,) = LAYOUT.told(rows, [column])
    assert told.startswith("timid has a PSNR above") and "under-dispersed" in told and "sharp" not in told
    assert not LAYOUT.told(rows[1:], [column]) and not LAYOUT.told(rows[:2], [column]) and not LAYOUT.told(rows, [])


def test_a_seam_is_seen_where_samples_do_not_go_on():
    """The edge is between the second and the third column; differences of the originals across it are 10."""
    originals = np.tile(np.array([0, 10, 20, 30], np.uint8), (2, 1, 3, 1))
    hidden = np.zeros(originals.shape, bool)
    hidden[..., 2:] = True
    same, far = originals[:, None].copy(), originals[:, None].copy()
    far[..., 2:] += 20
    assert seam(same, originals, hidden).value == 1
    assert seam(far, originals, hidden).value == pytest.approx(3)
    far[..., :2] = 99  # what was shown is pasted
    assert seam(far, originals, hidden).value == pytest.approx(3)
    assert seam(same, np.zeros_like(originals), hidden).status == "not_applicable"


def test_large_maps_are_compared_on_a_grid():
    small, large = classes_of(np.array([[[0, 2]]]), 3), classes_of(np.zeros((2, 300, 200), np.uint8), 20)
    assert small.tolist() == [[1, 0, 0, 0, 0, 1]]
    assert (
        len(large) == 2 and VALUES / 2 < large.shape[1] <= VALUES and large.sum(1).tolist() == [large.shape[1] / 20] * 2
    )
