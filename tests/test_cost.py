"""Cost: FLOPs with known answers, a clock that can be paused, and rates that follow from it."""

import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from genbench.cost import Meter
from genbench.flops import FlopCounter


def count(action):
    with FlopCounter() as counter:
        action()
    return counter


def test_linear_layers():
    layer, images = nn.Linear(10, 20), torch.randn(4, 10)
    assert count(lambda: layer(images)).flops == 1600
    assert count(lambda: layer(images).sum().backward()).flops == 3200
    assert count(lambda: layer(images.requires_grad_()).sum().backward()).flops == 4800


def test_convolutions():
    images = torch.randn(1, 3, 8, 8)
    assert count(lambda: nn.Conv2d(3, 16, 3, padding=1)(images)).flops == 55_296
    assert count(lambda: nn.ConvTranspose2d(3, 16, 2, 2)(images)).flops == 24_576


def test_attention_on_a_cpu_counts():
    q = torch.randn(1, 2, 16, 8, requires_grad=True)
    forward = count(lambda: F.scaled_dot_product_attention(q, q, q)).flops
    assert forward == 16_384
    assert count(lambda: F.scaled_dot_product_attention(q, q, q).sum().backward()).flops > 2 * forward


def test_a_gradient_penalty_does_not_stop_the_count():
    layer, images = nn.Linear(10, 1), torch.randn(4, 10, requires_grad=True)

    def penalty():
        (gradient,) = torch.autograd.grad(layer(images).sum(), images, create_graph=True)
        gradient.square().sum().backward()

    assert count(penalty).flops > 0


def test_what_is_not_counted_is_named():
    matrix = torch.eye(3)
    assert "mv" in count(lambda: matrix @ torch.ones(3)).uncounted
    assert count(lambda: torch.linalg.slogdet(matrix)).uncounted
    assert not count(lambda: nn.Linear(3, 3)(matrix)).uncounted


def test_the_clock_pauses():
    meter = Meter(torch.device("cpu"))
    with meter.training():
        time.sleep(0.05)
        with meter.pause():
            time.sleep(0.5)
        with meter.phase("a") as ledger:
            time.sleep(0.05)
            ledger.images += 8
    cost = meter.train_cost()
    assert 0.1 <= cost.seconds < 0.4 and 0.05 <= cost.phases["a"].seconds < 0.3
    assert cost.device_seconds == cost.seconds and cost.peak_bytes > 10**6


def test_a_crashed_training_still_has_a_cost():
    meter = Meter(torch.device("cpu"))
    with pytest.raises(RuntimeError), meter.training():
        time.sleep(0.05)
        raise RuntimeError
    assert meter.train_cost().seconds >= 0.05 and meter.train_cost().steps is None


def test_a_resumed_clock_counts_all_segments():
    first, second = Meter(torch.device("cpu")), Meter(torch.device("cpu"))
    with first.training():
        with first.phase("a") as ledger:
            ledger.images += 8
        time.sleep(0.1)
        state = first.state()
    with second.training():
        second.restore(state)
        time.sleep(0.05)
    assert second.train_seconds >= 0.15 and second.images == 8


def test_throughput_is_images_over_seconds():
    meter = Meter(torch.device("cpu"))
    with meter.sampling():
        time.sleep(0.1)
        meter.sampled = 50
    cost = meter.sample_cost(batch=50, nfe=3)
    assert cost.images_per_second == pytest.approx(50 / cost.seconds) and cost.images_per_second < 500
