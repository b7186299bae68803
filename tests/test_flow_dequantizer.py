"""Variational dequantisation against integrals over the bins, the Jacobian, and what it starts as."""

import math

import pytest
import torch
from test_flow import bits, build, fit, images, log_det, stir

from genbench import Batch, DataSpec
from genbench.evaluate.likelihood import likelihood_measurements
from genbench.images import dequantize, to_float, to_uint8
from genbench_flow import Flow
from genbench_flow.dequantizer import Dequantizer

SHAPES = [(1, 8, 8), (3, 4, 6), (1, 7, 7), (2, 1, 3), (1, 1, 5)]


def make(shape=(1, 8, 8), num_classes=0) -> Dequantizer:
    torch.manual_seed(0)
    config = Flow.Config(**Flow.presets["tiny"] | {"width": 8})
    return stir(Dequantizer(DataSpec("toy", shape, num_classes), config), 0.8).eval()


def levels(n, shape=(1, 8, 8), seed=0):
    return torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


# The noise.


@pytest.mark.parametrize("shape", SHAPES)
def test_the_noise_stays_in_its_bin_and_is_not_uniform(shape):
    dequantizer, y = make(shape), levels(40, shape)
    with torch.no_grad():
        x, minus_log_q = dequantizer(to_float(y))
    assert torch.equal(to_uint8(x), y) and minus_log_q.shape == (40,)
    assert minus_log_q.mean() < -0.02  # minus a divergence from the uniform: at most 0


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 2, 4), (1, 3, 5)])
def test_log_determinant_of_the_noise(shape):
    dequantizer, centres = make(shape).double(), to_float(levels(1, shape)).double()
    noise = images(1, shape).double()
    found = dequantizer.transform(noise, centres, None)[1][0]
    torch.testing.assert_close(found, log_det(lambda v: dequantizer.transform(v, centres, None)[0], noise))
    assert found.abs() > 0.1


def test_every_noise_sees_the_levels_the_label_and_for_one_half_the_other_noise():
    dequantizer, centres, noise = make(num_classes=3), to_float(levels(1)), images(1)
    label = torch.zeros(1, dtype=torch.long)

    def moved(other_noise, other_centres, other_label):
        with torch.no_grad():
            first = dequantizer.transform(noise, centres, label)[0]
            return (first - dequantizer.transform(other_noise, other_centres, other_label)[0]).abs()[0, 0] > 1e-6

    brighter = centres.clone()
    brighter[..., 3, 3] += 0.3
    assert moved(noise, brighter, label)[2:5, 2:5].all()
    assert moved(noise, centres, label + 1).all()
    louder = noise.clone()
    louder[..., 3, 3] *= 0.5
    seen = moved(louder, centres, label)
    assert seen[3, 3] and seen.sum() > 1


def test_a_new_dequantiser_is_the_uniform_one():
    """Its bound has the mean of the uniform's, and is its value for the same noise."""
    model = build(dequantization="variational")
    for coupling in model.dequantizer.couplings:
        torch.nn.init.zeros_(coupling.network.last.weight)
        torch.nn.init.zeros_(coupling.network.last.bias)
    y = levels(1).repeat(3000, 1, 1, 1)
    with torch.no_grad():
        noise, change = model.dequantizer.transform(images(9), to_float(levels(9)), None)
        learned = model.log_prob(to_float(y))
        uniform = model.log_density(dequantize(y, torch.Generator().manual_seed(1)))
    torch.testing.assert_close(noise, images(9), atol=1e-6, rtol=0)
    torch.testing.assert_close(change, torch.zeros(9), atol=1e-4, rtol=0)
    error = math.hypot(learned.std(), uniform.std()) / 3000**0.5
    assert abs(learned.mean() - uniform.mean()) < 4 * error
    assert learned.std().item() == pytest.approx(uniform.std().item(), rel=0.1)


# The bound.


@pytest.mark.parametrize("front", ["logit", "linear"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16)])
def test_an_untrained_flow_has_8_bits(shape, front):
    model = Flow(DataSpec("toy", shape), Flow.Config(dequantization="variational", front=front, coupling="spline"))
    found = bits(model, dequantize(levels(4, shape), torch.Generator().manual_seed(0)))
    torch.testing.assert_close(found, torch.full((4,), 8.0).double(), atol=1e-5, rtol=0)


def test_its_weights_average_to_the_probability_of_the_levels_and_their_logarithms_to_less():
    """E_q[p/q] is the integral of the density over the bin: here by a grid, for two pixels."""
    model = build((1, 1, 2), scale=0.7, alpha=0.1, dequantization="variational")
    y = torch.tensor([97, 140], dtype=torch.uint8).view(1, 1, 1, 2)
    axis = (torch.arange(120.0) + 0.5) / 120 / 128 - 1
    grid = torch.cartesian_prod(*[axis + level / 128 for level in (97, 140)]).view(-1, 1, 1, 2)
    torch.manual_seed(0)
    with torch.no_grad():
        probability = model.log_density(grid.double()).exp().mean() / 128**2
        drawn = model.log_prob(to_float(y).expand(40000, -1, -1, -1)).double() - 2 * math.log(128)
    weight = drawn.exp() / probability
    assert drawn.std() > 0.02, "the noise is as the model would have it, so this tests nothing"
    assert abs(weight.mean() - 1) < 4 * weight.std() / 200
    assert drawn.mean() < probability.log() - 4 * drawn.std() / 200


def test_the_given_dequantisation_does_not_matter():
    model, y = build(dequantization="variational"), levels(5)
    found = []
    for seed in (0, 1):
        x = dequantize(y, torch.Generator().manual_seed(seed))
        torch.manual_seed(7)
        found.append(bits(model, x))
    torch.testing.assert_close(*found)


@pytest.fixture(scope="module")
def grays():
    """2x2 images whose pixels are one of 32 neighbouring levels, independently: 5 bits/dim."""
    return torch.randint(112, 144, (4096, 1, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_the_bound_of_a_trained_flow_is_above_the_entropy(grays):
    model, losses = fit(grays, 80, dequantization="variational", learning_rate=1e-2)
    torch.manual_seed(0)
    found = bits(model, to_float(grays))
    assert found.mean() > 5 - 4 * found.std() / 64
    assert found.mean() < 5.8 and losses[0] == pytest.approx(8, abs=1e-3)


def test_the_dequantiser_learns():
    model = build(dequantization="variational", num_classes=3)
    (phase,) = model.phases()
    optimised = {id(p) for group in phase.optimizer.param_groups for p in group["params"]}
    model.loss("train", Batch(images(6), torch.arange(6) % 3)).backward()
    for parameter in model.dequantizer.parameters():
        assert id(parameter) in optimised and parameter.grad.abs().sum() > 0


def test_the_record_calls_it_a_bound():
    from test_likelihood import noise, some_job

    for dequantization, kind in (("uniform", "exact"), ("variational", "bound")):
        found = likelihood_measurements(some_job(), build(dequantization=dequantization), noise(20))[0]
        assert found.kind == kind and not found.discrete and found.value > 7
        assert ("variational dequantisation" in found.note) == (kind == "bound")
