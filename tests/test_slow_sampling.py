"""Sampling that takes long: small calls, signs of life, gradients on the way, and what all of it costs."""

import numpy as np
import pytest
import torch
from finished import record_of, run_of
from torch import nn
from toys import Toy, toy_job

from genbench.data.condition_plan import ConditionPlan
from genbench.metering.meter import Meter
from genbench.running import sample as sampling
from genbench.running.sample import BLOCK_FLOPS, block_size, flops_per_image
from genbench.support import progress

WIDTH = 4
SLOW = """
import time
import torch
from torch import nn
from genbench import Model, hookimpl

class Slow(Model):
    name = "slow"

    def __init__(self, data, config):
        super().__init__(data, config)
        self.layer = nn.Linear(data.dims, data.dims)

    def loss(self, phase, batch):
        return self.layer(batch.images.flatten(1)).square().mean()

    def sample(self, n, labels=None):
        x = torch.rand(n, self.data.dims)
        for step in range(6):
            time.sleep(4.0 if n == 80 else 0.0)
            x = self.layer(x).tanh()
            REPORT
        return x.view(n, *self.data.shape)

@hookimpl
def register_models(register):
    register(Slow)
"""


class Climbing(Toy):
    """Samples by steps along a gradient: two products forward and one backward for each."""

    def __init__(self, data, config):
        super().__init__(data, config)
        self.net = nn.Linear(data.dims, WIDTH, bias=False)

    def sample(self, n, labels=None):
        x = torch.randn(n, self.data.dims)
        for _ in range(3):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                slope = torch.autograd.grad(self.net(x).square().sum(), x)[0]
            x = x - 0.01 * slope
        return x.detach().view(n, *self.data.shape).tanh()


def drawn(tmp_path, digits, kind, count=20, **changes):
    """The samples of an untrained model, and what was reported while they were drawn."""
    job = toy_job(tmp_path, kind, samples=count, **changes)
    job.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model, said = kind(digits.spec(False), kind.Config()).eval(), []
    progress.listen(lambda stage, share, text, facts: said.append((stage, share)))
    try:
        return sampling.sample(job, model, digits, job.folder, Meter(torch.device("cpu"))), said
    finally:
        progress.listen(None)


def test_it_says_at_once_that_nothing_is_drawn_yet(tmp_path, digits):
    _, said = drawn(tmp_path, digits, Toy)
    assert said[0] == ("sample", 0.0) and said[-1] == ("sample", 1.0)


def test_the_gradient_of_a_sampler_is_counted(tmp_path, digits):
    job = toy_job(tmp_path, Climbing, samples=10)
    model = Climbing(digits.spec(False), Climbing.Config()).eval()
    products = 2 * 64 * WIDTH
    assert flops_per_image(job, model, ConditionPlan.of(digits, None, 10)) == 3 * (products + products)
    samples, _ = drawn(tmp_path, digits, Climbing)
    assert samples.flops == 6 * products and torch.is_inference_mode_enabled() is False


def test_a_call_is_as_large_as_the_time_allows(tmp_path):
    job, limit = toy_job(tmp_path, Toy, samples=1000), BLOCK_FLOPS["cpu"]
    sizes = {
        flops: block_size(flops, job) for flops in (None, 1.0, limit / 250, limit / 249, limit / 8, limit, 9 * limit)
    }
    assert list(sizes.values()) == [250, 250, 250, 128, 8, 1, 1]
    assert block_size(1.0, toy_job(tmp_path, Toy, samples=30)) == 30


def test_a_costly_model_is_sampled_in_small_calls_and_resumes_to_the_byte(tmp_path, digits, monkeypatch):
    calls, draw = [], sampling.draw

    def watching(job, model, labels, start, count):
        calls.append((start, count))
        return draw(job, model, labels, start, count)

    monkeypatch.setattr(sampling, "draw", watching)
    monkeypatch.setitem(BLOCK_FLOPS, "cpu", 6 * 2 * 64 * WIDTH * 9)
    samples, said = drawn(tmp_path / "whole", digits, Climbing)
    assert samples.batch == 8 and [count for start, count in calls if start] == [8, 4]
    assert [share for _, share in said] == [0.0, 0.0, 0.4, 0.8, 1.0]
    monkeypatch.setattr(sampling, "SHARD_SECONDS", -1.0)
    monkeypatch.setattr(sampling, "fault", lambda point: stop() if len(calls) > 9 else None)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drawn(tmp_path / "killed", digits, Climbing)
    monkeypatch.setattr(sampling, "fault", lambda point: None)
    again, _ = drawn(tmp_path / "killed", digits, Climbing)
    assert np.array_equal(again.images, samples.images)


def test_each_call_of_a_network_and_each_report_is_a_sign_of_life(tmp_path, digits, monkeypatch):
    signs = []
    monkeypatch.setattr(progress, "alive", lambda: signs.append("alive"))
    torch.manual_seed(0)
    model = Climbing(digits.spec(False), Climbing.Config()).eval()
    sampling.draw(toy_job(tmp_path, Climbing), model, ConditionPlan.of(digits, None, 4), 0, 4)
    assert len(signs) == 3 and not model.net._forward_pre_hooks
    model.report(0.5)
    assert len(signs) == 4


@pytest.mark.slow
@pytest.mark.parametrize("report", ["self.report((step + 1) / 6)", "pass"])
def test_a_slow_sampler_says_how_far_it_is_and_is_not_taken_for_hung(genbench, tmp_path, report):
    (tmp_path / "slow.py").write_text(SLOW.replace("REPORT", report))
    few = ["--budget", "2steps", "--samples", "80", "-d", "digits", "--device", "cpu"]
    result = genbench("run", "--plugin", "slow.py", "-m", "slow", *few, "--hang-timeout", "20")
    assert result.code == 0, result.err
    cost = record_of(run_of(tmp_path / "runs", "slow"))["cost"]["sample"]
    assert cost["seconds"] > 20 and cost["flops_per_image"] == 6 * 2 * 64 * 64


def test_what_a_model_reports_is_its_share_of_the_call(tmp_path, digits, monkeypatch):
    class Telling(Toy):
        def sample(self, n, labels=None):
            self.report(0.5)
            return super().sample(n, labels)

    monkeypatch.setattr(progress, "BETWEEN_SECONDS", -1.0)
    _, said = drawn(tmp_path, digits, Telling)
    assert said == [("sample", 0.0), ("sample", 0.0), ("sample", 0.5), ("sample", 1.0)]
