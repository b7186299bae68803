"""Whether answers to a part of a digit, or to a small one, are of its class: real ones, others, and rows in between."""

import numpy as np
import pytest

from genbench.condition import EACH
from genbench.data.condition_plan import ConditionPlan
from genbench.data.entries import known_datasets
from genbench.data.folders import data_root
from genbench.data.preparation import prepare
from genbench.evaluate.judges import JUDGES, values_of
from genbench.metrics.alignment import ALIGNED, KEPT
from genbench.records.samples import Samples
from genbench.running.answers import ANSWERS

JUDGE = JUDGES["digits"]


@pytest.fixture(scope="module", params=["hole", "image"])
def task(request, session_cache):
    name = {"hole": "mnist5k-hole", "image": "mnist5k-4x"}[request.param]
    return request.param, prepare(known_datasets()[name], data_root(None), offline=True)


def row(task, name, count=400):
    """The metrics of a row without a model."""
    kind, data = task
    numbers = ConditionPlan.of(data, kind, count).numbers
    return values_of(Samples(ANSWERS[name](data, kind, numbers, 0), conditions=numbers), data, kind, JUDGE)


def test_real_answers_keep_the_class_those_of_others_by_chance_and_neighbours_in_between(task):
    assert task[1].judge == "digits"
    original, neighbour, shuffled = (row(task, name) for name in ("original", "neighbour", "shuffled"))
    assert original[KEPT].value > 0.97 and original[ALIGNED].value == pytest.approx(1)
    assert 0.3 < neighbour[ALIGNED].value < original[ALIGNED].value
    assert abs(shuffled[ALIGNED].value) < 0.1 and shuffled[KEPT].value < 0.25


def test_every_sample_counts_and_a_digit_of_another_class_is_none(task):
    _, data = task
    labels = data.test.labels
    sevens, others = np.flatnonzero(labels == 7), np.flatnonzero(labels != 7)[:20]
    images = data.test.images[np.resize(sevens, EACH * len(others))]
    assert JUDGE.values(images, data, np.repeat(others, EACH))[KEPT].value < 0.05
    half = np.where(np.arange(len(images))[:, None, None, None] % 2, images, data.test.images[np.repeat(others, EACH)])
    assert JUDGE.values(half, data, np.repeat(others, EACH))[KEPT].value == pytest.approx(0.5, abs=0.04)


def test_a_dataset_without_such_a_condition_has_nothing_that_reads_it(session_cache):
    assert prepare(known_datasets()["mnist5k"], data_root(None), offline=True).judge == ""
