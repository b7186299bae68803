"""Langevin dynamics: the stationary variance of the discrete chain, and gradients where none are recorded."""

import math
from collections import deque

import pytest
import torch

from genbench.langevin import gradient, langevin


def test_the_gradient_is_each_rows_own_and_detached():
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    with torch.no_grad():
        found = gradient(lambda x: x.pow(3).sum(1), x)
    assert torch.equal(found, 3 * x**2)
    assert not found.requires_grad and not x.requires_grad


def test_the_gradient_leaves_no_trace_in_the_network_and_has_all_its_digits_under_autocast():
    torch.manual_seed(0)
    net, x = torch.nn.Linear(64, 1), torch.randn(5, 64)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradient(lambda x: net(x).squeeze(1), x)
    assert torch.equal(found, net.weight.expand(5, 64))
    assert net.weight.grad is None


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_a_long_chain_on_a_quadratic_energy_has_the_variance_of_its_recursion(temperature):
    """v = (1 - step k)^2 v + noise^2 at rest, which tends to temperature / k for small steps."""
    torch.manual_seed(0)
    k, step = 4.0, 0.1
    noise = math.sqrt(2 * step * temperature)
    chain = langevin(torch.zeros(20_000), lambda x: -k * x, 60, step, noise)
    (x,) = deque(chain, maxlen=1)
    at_rest = noise**2 / (1 - (1 - step * k) ** 2)
    assert x.mean().abs().item() < 0.02
    assert x.var().item() == pytest.approx(at_rest, rel=0.05)
    assert at_rest == pytest.approx(temperature / k, rel=0.3)


def test_every_state_is_yielded_and_without_noise_the_chain_climbs():
    heights = [(-(x**2)).item() for x in langevin(torch.tensor(3.0), lambda x: -2 * x, 10, 0.1, 0.0)]
    assert len(heights) == 10 and heights == sorted(heights)


def test_a_limit_is_the_nearest_point_inside_and_none_changes_nothing():
    def states(**limit):
        torch.manual_seed(0)
        return torch.stack(list(langevin(torch.zeros(200), lambda x: 0.5 - x, 30, 0.2, 0.5, **limit)))

    free, held = states(), states(limit=0.6)
    assert free.abs().max() > 1.2 and held.abs().max() == 0.6
    assert torch.equal(held[0], free[0].clamp(-0.6, 0.6)), "the noise of a step is inside too"
    assert torch.equal(states(limit=100.0), free)
