"""Throughput: warmed up, whole calls, within its time, and never a reason for a job to fail."""

import time

import numpy as np
import pytest
import torch
from toys import Toy, build, toy_job

from genbench.data.condition_plan import ConditionPlan
from genbench.evaluate.likelihood import likelihood_measurements
from genbench.metering.meter import Meter
from genbench.running.sample import sample
from genbench.running.throughput import measure_throughput, rates
from genbench.support.errors import BadInput


def pairs(found):
    return [(rate.batch, rate.images_per_second) for rate in found]


def test_a_call_that_takes_the_same_time_is_faster_in_larger_batches():
    found = pairs(rates(lambda batch: time.sleep(0.02), [1, 10]))
    assert [batch for batch, _ in found] == [1, 10]
    assert 4 < found[0][1] <= 50 < found[1][1] <= 500


def test_the_first_call_of_a_batch_only_warms_up():
    seen = []

    def call(batch):
        seen.append(batch)
        time.sleep(0.5 if seen.count(batch) == 1 else 0.02)

    ((_, rate),) = pairs(rates(call, [4]))
    assert 4 / 0.1 < rate <= 4 / 0.02


def test_a_batch_that_does_not_fit_in_the_time_is_left_out():
    called = []

    def call(batch):
        called.append(batch)
        time.sleep(batch * 0.2)

    found = rates(call, [1, 2, 8, 64], allowance=1.5)
    assert [rate.batch for rate in found] == [1, 2] and max(called) == 2


def test_a_batch_that_fails_says_why():
    def call(batch):
        if batch == 1:
            raise ValueError("one is not enough\nreally")

    first, second = rates(call, [1, 2])
    assert (first.images_per_second, first.note) == (None, "ValueError: one is not enough really")
    assert second.images_per_second > 0


def test_batches_do_not_exceed_that_of_the_samples_on_a_cpu(tmp_path, digits):
    job = toy_job(tmp_path, samples=20)
    found = measure_throughput(job, build(job, digits), ConditionPlan.of(digits, None, 20), 20)
    assert [rate.batch for rate in found] == [1, 16] and all(rate.images_per_second > 0 for rate in found)


@pytest.mark.parametrize("count", [1, 16])
def test_labels_go_with_every_batch(tmp_path, digits, count):
    job = toy_job(tmp_path, samples=20, conditional=True)
    model, seen = build(job, digits), []
    plain = model.sample
    model.sample = lambda n, labels=None: seen.append((n, len(labels))) or plain(n, labels)
    measure_throughput(job, model, ConditionPlan.of(digits, "class", 20), 20)
    assert (count, count) in seen and all(n == labels for n, labels in seen)


class Watched(Toy):
    """Keeps how it was called."""

    def __init__(self, data, config):
        super().__init__(data, config)
        self.calls = []

    def log_prob(self, images, labels=None):
        self.calls.append((torch.is_grad_enabled(), len(images)))
        return images.flatten(1).sum(1)

    def sample(self, n, labels=None):
        self.calls.append((torch.is_grad_enabled(), n))
        return super().sample(n, labels)


def test_samples_and_likelihoods_come_in_large_batches_without_gradients(tmp_path, digits):
    job = toy_job(tmp_path, Watched, samples=500)
    model = build(job, digits, Watched)
    sample(job, model, digits, job.folder, Meter(torch.device("cpu")))
    assert model.calls == [(False, 1), (False, 8), (False, 250), (False, 250)]
    model.calls.clear()
    likelihood_measurements(job, model, digits)
    assert not any(grad for grad, _ in model.calls) and model.calls[0] == (False, 250)


@pytest.mark.parametrize(
    ("given", "told"),
    [(None, "a NoneType"), (np.zeros((20, 1, 8, 8)), "a ndarray"), (torch.zeros(20, 64), r"torch.float32 \(20, 64\)")],
)
def test_what_is_no_batch_of_images_is_named(tmp_path, digits, given, told):
    class Careless(Toy):
        def sample(self, n, labels=None):
            return given

    job, meter = toy_job(tmp_path, Careless), Meter(torch.device("cpu"))
    with (
        pytest.raises(BadInput, match=rf"toy: sample\(1\) must return floats of shape .*, got {told}"),
        meter.sampling(),
    ):
        sample(job.model_copy(update={"samples": 20}), build(job, digits, Careless), digits, tmp_path, meter)
