"""Flow matching: the flow of a Gaussian and its density in closed form, the loss by hand, guidance, calls, limits."""

import math
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from toys import train_toy

from genbench import Batch, DataSpec
from genbench.data.entries import known_datasets
from genbench.data.folders import data_root
from genbench.data.preparation import prepare
from genbench.evaluate.evidence import log_prob_of_levels
from genbench.walks import last
from genbench_ddpm import DDPM
from genbench_flow_matching import FlowMatching
from genbench_flow_matching.ode import (
    SOLVERS,
    change_of_density,
    directions,
    likelihood_times,
    sampling_times,
    with_divergence,
)

CLASSES = 3
MEAN = torch.tensor([0.2, -0.1, 0.0, 0.3], dtype=torch.float64)
ROOT = torch.tensor(
    [[0.20, 0.0, 0.0, 0.0], [0.08, 0.15, 0.0, 0.0], [-0.05, 0.1, 0.1, 0.0], [0.02, -0.06, 0.05, 0.18]],
    dtype=torch.float64,
)
COVARIANCE = ROOT @ ROOT.T
TARGET = torch.distributions.MultivariateNormal(MEAN, scale_tril=ROOT)


def gaussian_velocity(x, t):
    """E[x_1 - x_0 | x_t = x] for x_1 ~ N(MEAN, COVARIANCE), of images (B, 1, 2, 2)."""
    unit = torch.eye(4, dtype=torch.float64)
    gain = (t * COVARIANCE - (1 - t) * unit) @ torch.linalg.inv(t**2 * COVARIANCE + (1 - t) ** 2 * unit)
    return (MEAN + (x.flatten(1) - t * MEAN) @ gain.T).view_as(x)


def built(preset="tiny", shape=(1, 8, 8), classes=0, **config):
    torch.manual_seed(0)
    return FlowMatching(
        DataSpec("images", shape, classes), FlowMatching.Config(**FlowMatching.presets[preset] | config)
    )


def perturbed(model, scale=0.3):
    """The model with weights at which its output is not 0."""
    with torch.no_grad():
        for p in model.parameters():
            p += scale * torch.randn_like(p) / max(p[0].numel() if p.dim() > 1 else 1, 1) ** 0.5
    return model.eval()


def perfect(**config):
    """The model of images of four pixels whose velocity is that of the Gaussian."""
    model = built(shape=(1, 2, 2), **config).double()
    model.v = lambda x, t, labels: gaussian_velocity(x, float(t[0]))
    return model


# The flow of a Gaussian


def exact_end(noise):
    """What the flow carries noise (B, 1, 2, 2) to: by the square root of the covariance that commutes with it."""
    values, vectors = torch.linalg.eigh(COVARIANCE)
    return (MEAN + noise.flatten(1) @ (vectors * values.sqrt()) @ vectors.T).view_as(noise)


def error_of(solver, steps, power=1):
    """Of the solution 1 / (2 - sin t) of dx/dt = x^2 cos t at t = 1, by times that grow as k^power."""
    start, times = torch.full((1,), 0.5, dtype=torch.float64), [(k / steps) ** power for k in range(steps + 1)]
    end = last(SOLVERS[solver].way(lambda x, t: x**2 * math.cos(t), start, times))
    return abs(float(end) - 1 / (2 - math.sin(1)))


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("adams", 2)])
def test_solvers_have_their_order(solver, order):
    for coarse, fine in pairwise(error_of(solver, steps) for steps in (50, 100, 200)):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.1)


def test_steps_of_two_velocities_have_their_order_in_steps_of_any_length():
    """Times that grow as squares, after a first step of Euler's."""
    for coarse, fine in pairwise(error_of("adams", steps, power=2) for steps in (50, 100, 200)):
        assert math.log2(coarse / fine) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize(("solver", "error"), [("euler", 1e-2), ("midpoint", 5e-4), ("heun", 5e-4), ("adams", 5e-4)])
def test_noise_is_carried_to_the_exact_end(solver, error):
    torch.manual_seed(0)
    noise = torch.randn(50, 1, 2, 2, dtype=torch.float64)
    end = last(SOLVERS[solver].way(gaussian_velocity, noise, [k / 400 for k in range(401)]))
    assert 0 < float((end - exact_end(noise)).abs().mean()) < error


@pytest.mark.parametrize("solver", ["midpoint", "heun", "adams"])
def test_samples_have_the_mean_and_the_covariance_of_the_data(solver):
    model = perfect(solver=solver, steps=100)
    torch.manual_seed(1)
    model.noise = lambda n: torch.randn(n, 1, 2, 2, dtype=torch.float64)
    drawn = model.sample(40_000).flatten(1)
    torch.testing.assert_close(drawn.mean(0), MEAN, atol=0.005, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), COVARIANCE, atol=0.001, rtol=0.02)


@pytest.mark.parametrize("solver", ["midpoint", "heun"])
def test_the_change_of_density_is_that_of_the_gaussian(solver):
    images = TARGET.sample((64,)).view(-1, 1, 2, 2)
    wanted = TARGET.log_prob(images.flatten(1))
    errors = []
    for steps in (100, 200):
        way = likelihood_times(steps), directions(images, probes=0)
        noise, change = change_of_density(SOLVERS[solver], gaussian_velocity, images, *way)
        found = torch.distributions.Normal(0, 1).log_prob(noise).flatten(1).sum(1) + change
        errors.append(float((found - wanted).abs().max()))
    assert errors[1] < 5e-3 and math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_the_likelihood_is_the_density_of_the_gaussian_however_samples_are_drawn(solver):
    """Euler's method would add 0.1 nats to these four pixels, and half a bit to each dimension of a digit."""
    images = TARGET.sample((64,)).view(-1, 1, 2, 2)
    found = perfect(solver=solver, probes=0, likelihood_steps=200).log_prob(images)
    torch.testing.assert_close(found, TARGET.log_prob(images.flatten(1)), atol=5e-3, rtol=0)


def test_hutchinson_s_estimate_is_right_on_average_and_better_with_more_probes():
    torch.manual_seed(2)
    image = TARGET.sample().view(1, 1, 2, 2)
    wanted, spread = float(TARGET.log_prob(image.flatten())), []
    for probes in (1, 4):
        found = perfect(probes=probes, likelihood_steps=150).log_prob(image.expand(4000, -1, -1, -1))
        spread.append(float(found.std()))
        assert float(found.mean()) == pytest.approx(wanted, abs=4 * spread[-1] / 4000**0.5 + 2e-3)
    assert spread[0] > 0.1 and spread[1] == pytest.approx(spread[0] / 2, rel=0.1)


# Divergence and likelihood of a network


def test_the_divergence_is_the_trace_of_the_jacobian():
    model = perturbed(built(shape=(2, 4, 4), probes=0))
    x = torch.randn(2, 2, 4, 4)
    v = model.velocity(None)
    velocity, found = with_divergence(v, x, 0.4, directions(x, probes=0))
    torch.testing.assert_close(velocity, v(x, 0.4).detach())
    for row, image in zip(found, x):
        jacobian = torch.autograd.functional.jacobian(
            lambda flat: v(flat.view(1, 2, 4, 4), 0.4).flatten(), image.flatten()
        )
        torch.testing.assert_close(row, jacobian.trace(), atol=1e-4, rtol=1e-4)
    assert found.abs().min() > 1e-3 and not found.requires_grad


def test_directions_of_random_signs_square_to_one():
    x = torch.zeros(5, 1, 8, 8)
    found = torch.stack(directions(x, probes=3))
    assert found.shape == (3, 5, 1, 8, 8)
    torch.testing.assert_close(found.square().sum(0), torch.ones_like(x))
    assert not torch.equal(found[0, 0], found[0, 1]) and abs(float(found.mean())) < 0.1


@pytest.mark.slow
def test_the_change_of_density_and_its_flow_are_undone_by_the_way_back():
    model = perturbed(built(solver="midpoint"))
    x, v = torch.randn(3, 1, 8, 8), model.velocity(None)
    along = [torch.ones_like(x)]
    there, gained = change_of_density(model.solver, v, x, [k / 200 for k in range(201)], along)
    back, lost = change_of_density(model.solver, v, there, [1 - k / 200 for k in range(201)], along)
    assert (there - x).abs().max() > 0.1 and gained.abs().max() > 0.1
    torch.testing.assert_close(back, x, atol=1e-3, rtol=0)
    torch.testing.assert_close(gained, -lost, atol=1e-2, rtol=1e-3)


def test_an_untrained_network_has_the_density_of_the_noise():
    images = torch.rand(5, 1, 8, 8) * 2 - 1
    wanted = torch.distributions.Normal(0, 1).log_prob(images).flatten(1).sum(1)
    torch.testing.assert_close(built().log_prob(images), wanted)


def test_the_steps_of_the_likelihood_begin_small_at_the_data():
    times = likelihood_times(30)
    steps = [a - b for a, b in pairwise(times)]
    assert times[0] == 1 and times[-1] == pytest.approx(0, abs=1e-12) and len(times) == 31
    assert all(0 < short < long for short, long in pairwise(steps)) and steps[0] < 1e-3


def test_an_estimate_is_declared_and_says_how_it_is_made():
    exact, guided = built(probes=0, solver="heun"), built(classes=2, label_dropout=0.1, guidance=2.0, probes=2)
    assert exact.likelihood == guided.likelihood == "estimate"
    assert exact.likelihood_note == "ODE in 10 midpoint steps, exact divergence"
    assert "probes = 2" in guided.likelihood_note and guided.likelihood_note.endswith("without guidance")


# Training


@pytest.mark.parametrize("times", ["uniform", "logit_normal"])
def test_the_loss_is_that_of_the_velocity_on_straight_lines(times):
    model, seen = built(times=times), {}
    images = torch.rand(8, 1, 8, 8) * 2 - 1

    def stub(x_t, t, labels):
        seen.update(x_t=x_t, t=t)
        return torch.full_like(x_t, 0.25)

    model.v = stub
    loss = model.loss("train", Batch(images))
    t = seen["t"].view(-1, 1, 1, 1)
    noise = (seen["x_t"] - t * images) / (1 - t)
    assert abs(float(noise.mean())) < 0.3 and float(noise.std()) == pytest.approx(1, abs=0.2)
    torch.testing.assert_close(loss, (0.25 - (images - noise)).square().mean(), atol=1e-3, rtol=1e-3)
    shares = seen["t"] if times == "uniform" else torch.special.ndtr(torch.logit(seen["t"]))
    assert sorted((8 * shares).long().tolist()) == list(range(8))  # one in each eighth


def test_labels_are_dropped_in_training_and_the_null_class_is_the_last():
    model, seen = built(classes=CLASSES, label_dropout=0.3), []
    model.v = lambda x, t, labels: seen.append(labels) or 0 * x
    labels = torch.arange(3000) % CLASSES
    model.loss("train", Batch(torch.zeros(3000, 1, 8, 8), labels))
    dropped = seen[0] == CLASSES
    assert float(dropped.double().mean()) == pytest.approx(0.3, abs=0.03)
    assert torch.equal(seen[0][~dropped], labels[~dropped])
    assert model.net.label.table.num_embeddings == CLASSES + 1


# Sampling


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("solver", list(SOLVERS))
def test_network_calls_are_counted_exactly(solver, guidance):
    model = built(classes=CLASSES, label_dropout=0.1, solver=solver, steps=3, guidance=guidance, halvings=2)
    calls = []
    model.net.register_forward_hook(lambda *_: calls.append(1))
    model.sample(2, torch.tensor([0, 1]))
    assert len(calls) == model.nfe == 5 * SOLVERS[solver].calls * int(guidance)


def guided(weight, labels):
    model = perturbed(built(classes=CLASSES, label_dropout=0.1, guidance=weight, solver="euler", steps=1))
    torch.manual_seed(1)
    return model, model.sample(2, labels)


def test_guidance_by_one_is_plain_and_others_extrapolate_from_the_null_class():
    labels, null = torch.tensor([0, 2]), torch.tensor([CLASSES, CLASSES])
    _, plain = guided(1.0, labels)
    model, without = guided(1.0, null)
    torch.manual_seed(1)
    noise, t = model.noise(2), torch.zeros(2)
    assert torch.equal(plain, (noise + model.v(noise, t, labels)).clamp(-1, 1))
    assert torch.equal(guided(0.0, labels)[1], without) and not torch.equal(plain, without)
    pushed = model.v(noise, t, null) + 2.5 * (model.v(noise, t, labels) - model.v(noise, t, null))
    torch.testing.assert_close(guided(2.5, labels)[1], (noise + pushed).clamp(-1, 1))


def test_guidance_needs_dropout_and_labels():
    with pytest.raises(ValidationError, match="guidance: 2 needs a model trained with label_dropout"):
        built(classes=CLASSES, guidance=2.0)
    with pytest.raises(ValueError, match="guidance: 2 needs a condition, and this job is not conditional"):
        built(guidance=2.0, label_dropout=0.1)


def test_short_last_steps_keep_details_that_are_weaker_than_a_step_of_equal_length():
    """Of a Gaussian of deviation 0.03, whose velocity is (E[x_1|x_t] - x_t) / (1 - t), in the steps of `small`."""
    deviation = 0.03

    def velocity(x, t):
        return (t * deviation**2 / ((t * deviation) ** 2 + (1 - t) ** 2) * x - x) / (1 - t)

    def left(halvings):
        (*_, x) = SOLVERS["adams"].way(velocity, torch.ones(()), sampling_times(FlowMatching.Config().steps, halvings))
        return float(x) / deviation

    assert left(FlowMatching.Config().halvings) == pytest.approx(1, abs=0.1) and left(0) < 0.7
    assert sampling_times(4, 0) == [0, 0.25, 0.5, 0.75, 1] and sampling_times(2, 2) == [0, 0.5, 0.75, 0.875, 1]


def test_chains_go_straight_to_noise_and_back_in_the_sampler_s_steps():
    model = perturbed(built(steps=4, halvings=2))
    images = torch.rand(200, 1, 8, 8) * 2 - 1
    times, states = model.forward_chain(images, 4)
    assert times.tolist() == [0, 2, 4, 6] and torch.equal(states[0], images)
    assert float(states[-1].std()) == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(states[1], images + (states[-1] - images) / 8)
    torch.manual_seed(5)
    times, states = model.reverse_chain(3, 7)
    torch.manual_seed(5)
    assert times.tolist() == [6, 5, 4, 3, 2, 1, 0] and torch.equal(states[-1].clamp(-1, 1), model.sample(3))


def test_interpolation_begins_and_ends_at_the_images():
    torch.manual_seed(3)
    first, second = TARGET.sample((2, 5)).view(2, 5, 1, 2, 2).clamp(-0.99, 0.99)
    model = perfect(steps=400, solver="heun")
    strip = model.interpolate(first, second, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    torch.testing.assert_close(strip[0], first, atol=1e-3, rtol=0)
    torch.testing.assert_close(strip[2], second, atol=1e-3, rtol=0)
    assert (strip[1] - first).abs().max() > 0.05


# Networks


def test_it_has_the_network_of_ddpm_and_the_paper_s():
    """Lipman et al. 2023, table 3, on ADM's layers."""
    ours, theirs = built("small", (1, 28, 28)), DDPM(DataSpec("images", (1, 28, 28)), DDPM.Config())
    assert [(k, p.shape) for k, p in ours.net.named_parameters()] == [
        (k, p.shape) for k, p in theirs.net.named_parameters()
    ]
    with torch.device("meta"):
        paper = built("paper", (3, 32, 32))
    assert sum(p.numel() for p in paper.parameters()) == 171_268_099
    assert paper.nfe == 142


@pytest.mark.slow
def test_the_likelihood_comes_near_the_entropy_and_not_below_it(tmp_path, session_cache):
    data = prepare(known_datasets()["calibration"], data_root(None), offline=True)
    config = FlowMatching.Config(times="uniform", batch_size=64).model_dump(mode="json")
    trained, _ = train_toy(tmp_path, data, FlowMatching, budget="30000images", config=config)
    levels = torch.from_numpy(data.test.images[:300])
    found = log_prob_of_levels(trained.eval(), levels, None, 0).double()
    true = torch.from_numpy(data.law.log_prob(data.test.images[:300].reshape(300, -1)))
    gaps = (true - found) / (64 * math.log(2))
    error = float(gaps.std()) / len(gaps) ** 0.5
    assert -3 * error < float(gaps.mean()) < 0.20, "of the KL divergence, bits/dim"
