"""The learned variance of the reverse process: its range, its optimum, and what trains it (Nichol & Dhariwal 2021)."""

import math

import pytest
import torch
from pydantic import ValidationError

from genbench import Batch, DataSpec
from genbench.images import to_float
from genbench.walks import end_of
from genbench_ddpm import DDPM
from genbench_ddpm.diffusion import Diffusion, cosine_betas, linear_betas
from genbench_ddpm.samplers import ancestral, ddim
from genbench_ldm import LatentDiffusion

BETAS = {"linear": linear_betas(50, 1e-3, 0.2), "cosine": cosine_betas(50)}
each_schedule = pytest.mark.parametrize("betas", BETAS.values(), ids=BETAS)
each_model = pytest.mark.parametrize("model", [DDPM, LatentDiffusion], ids=lambda model: model.name)
HYBRID = {"objective": "hybrid", "variance": "learned"}


def with_fraction(network, value):
    """The network, with `value` said of every dimension's variance."""

    def both(x, t):
        prediction = network(x, t)
        return torch.cat([prediction, torch.full_like(prediction, value)], dim=1)

    return both


def shrink(x, t):
    """A poor estimate of the noise."""
    return 0.5 * x


def images(n=6):
    generator = torch.Generator().manual_seed(1)
    levels = torch.randint(0, 256, (n, 1, 4, 4), generator=generator, dtype=torch.uint8)
    return to_float(levels)


def parts(process, network, discrete=True):
    torch.manual_seed(3)
    return process.bound(process.denoiser(network), images(), strata=0, discrete=discrete)


@each_schedule
@pytest.mark.parametrize("discrete", [True, False])
@pytest.mark.parametrize(("value", "fixed"), [(1.0, "beta"), (-1.0, "posterior")])
def test_at_its_extremes_the_bound_is_that_of_a_fixed_variance(betas, discrete, value, fixed):
    learned = parts(Diffusion(betas, "eps", "learned"), with_fraction(shrink, value), discrete)
    wanted = parts(Diffusion(betas, "eps", fixed), shrink, discrete)
    for name in ("L_T", "L_t") if fixed == "posterior" else wanted:
        torch.testing.assert_close(learned[name], wanted[name], rtol=1e-5, atol=1e-5)


@each_schedule
def test_between_them_the_logarithm_is_linear(betas):
    process = Diffusion(betas, "eps", "learned")
    x_t = torch.zeros(4, 1, 1, dtype=torch.float64)
    for step in (2, 25, 50):
        t = torch.full((4,), step)
        fraction = torch.tensor([-1.0, 0.0, 1.0, 3.0]).double().view(4, 1, 1)
        low, high = process.posterior_variance[step].log(), betas[step - 1].log()
        wanted = torch.stack([low, (low + high) / 2, high, 2 * high - low])
        torch.testing.assert_close(process.variance(x_t, t, fraction).log().flatten(), wanted)


def test_at_the_first_step_the_least_variance_is_the_next_steps():
    """The posterior's is 0 there, of which there is no logarithm."""
    process = Diffusion(BETAS["linear"], "eps", "learned")
    x, one = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, dtype=torch.int64)
    assert process.variance(x, one, -torch.ones(1, 1).double()) == pytest.approx(float(process.posterior_variance[2]))
    assert process.variance(x, one, torch.ones(1, 1).double()) == pytest.approx(1e-3)


@each_schedule
@pytest.mark.parametrize("deviation", [0.0, 0.3, 1.0])
def test_the_bound_is_least_at_the_true_variance(betas, deviation):
    """Of x_0 ~ N(0, deviation^2): sigma_t^2 = that of the posterior + coefficient^2 Var(x_0 | x_t).

    So the optimum is the posterior's for a point, and beta_t for the standard normal.
    """
    process = Diffusion(betas, "x0", "learned")
    torch.manual_seed(0)
    for step in (2, 10, 50):
        t, signal, noise = torch.full((40_000,), step), process.signal[step], process.noise[step]
        x0 = deviation * torch.randn(40_000, 1, dtype=torch.float64)
        x_t = process.diffuse(x0, t, torch.randn_like(x0))
        spread = deviation**2 * noise**2 / (deviation**2 * signal**2 + noise**2)
        mean = deviation**2 * signal / (deviation**2 * signal**2 + noise**2) * x_t
        true = process.posterior_variance[step] + process.posterior_x0[step] ** 2 * spread
        low, high = process.posterior_variance[step].log(), betas[step - 1].log()
        best = float(2 * (true.log() - low) / (high - low) - 1)
        assert best == pytest.approx({0.0: -1, 1.0: 1}.get(deviation, best), abs=1e-6) and -1.001 < best < 1.001

        def term(value, t=t, x0=x0, x_t=x_t, mean=mean):
            network = with_fraction(lambda *_: mean, value)
            return float(process.term(process.denoiser(network)(x_t, t), x0, t, discrete=False).mean())

        assert term(best) < min(term(best - 1), term(best + 1))
        slope, curve = (term(best + 0.1) - term(best - 0.1)) / 0.2, term(best + 1) - 2 * term(best) + term(best - 1)
        assert abs(slope / curve) < 0.06


def two_parts(weight, x0):
    """Gradients that the hybrid loss gives to prediction and variance, each a factor of x_t."""
    process = Diffusion(BETAS["linear"], "eps", "learned")
    prediction, fraction = (torch.full((), value, requires_grad=True) for value in (0.7, 0.2))
    torch.manual_seed(5)
    loss = process.hybrid_loss(lambda x, t: torch.cat([prediction * x, fraction * x], 1), x0, weight=weight)
    loss.backward()
    return float(loss.detach()), float(prediction.grad), float(fraction.grad)


def test_the_bound_in_the_hybrid_trains_the_variance_alone():
    (_, mean, first), (_, again, second) = two_parts(1e-3, images()), two_parts(10.0, images())
    assert mean == again != 0
    assert second == pytest.approx(1e4 * first, rel=1e-4) and first != 0


def test_the_hybrid_is_the_simple_loss_plus_the_weighted_bound():
    process = Diffusion(BETAS["linear"], "eps", "learned")
    network, x0, found = with_fraction(shrink, 0.3), images(50), []
    for loss in (process.simple_loss, process.variational_loss):
        torch.manual_seed(5)
        found.append(float(loss(network, x0)))
    torch.manual_seed(5)
    assert float(process.hybrid_loss(network, x0, weight=0.5)) == pytest.approx(found[0] + 0.5 * found[1], rel=1e-5)


@pytest.mark.parametrize(("value", "fixed"), [(1.0, "beta"), (-1.0, "posterior")])
def test_the_ancestral_sampler_takes_the_learned_variance(value, fixed):
    drawn, noise = [], torch.randn(3, 4)
    for variance, network in (("learned", with_fraction(shrink, value)), (fixed, shrink)):
        process = Diffusion(BETAS["linear"], "eps", variance)
        torch.manual_seed(0)
        drawn.append(end_of(ancestral(process, process.denoiser(network), noise)))
    torch.testing.assert_close(*drawn, rtol=1e-4, atol=1e-4)


def test_ddim_needs_no_variance():
    process, noise = Diffusion(BETAS["linear"], "eps", "learned"), torch.randn(3, 4)
    drawn = [end_of(ddim(process, process.denoiser(with_fraction(shrink, value)), noise)) for value in (-1.0, 1.0)]
    assert torch.equal(*drawn)


def test_a_decoder_far_off_still_trains_the_variance():
    process = Diffusion(BETAS["linear"], "x0", "learned")
    x0 = torch.tensor([[-0.998], [0.998], [0.0], [0.5]])
    fraction = torch.full((4, 1), -1.0, requires_grad=True)
    guess = process.denoiser(lambda x, t: torch.cat([torch.tensor([[9.0], [-9.0], [0.0], [-1.0]]), fraction], 1))
    process.term(guess(x0, torch.ones(4, dtype=torch.int64)), x0, torch.ones(4, dtype=torch.int64)).sum().backward()
    assert fraction.grad.isfinite().all()
    assert (fraction.grad[[0, 1, 3]] < 0).all() and fraction.grad[2] > -1e-3  # to be wrong asks for more variance


# The models.


def tiny(model, **config):
    torch.manual_seed(0)
    return model(DataSpec("toy", (1, 8, 8)), model.Config(**model.presets["tiny"] | config))


@each_model
def test_a_learned_variance_has_an_output_for_every_dimension(model):
    fixed, learned = tiny(model), tiny(model, **HYBRID)
    assert learned.net.head.out_channels == 2 * fixed.net.head.out_channels
    more = sum(p.numel() for p in learned.parameters()) - sum(p.numel() for p in fixed.parameters())
    assert more == fixed.net.head.weight.numel() + fixed.net.head.bias.numel()


@each_model
@pytest.mark.parametrize("objective", ["hybrid", "variational"])
def test_training_improves_the_learned_variance(model, objective):
    """From the same weights: the output that says the variance moves, and its bound falls."""
    network, generator = tiny(model, variance="learned", objective=objective), torch.Generator().manual_seed(1)
    batch = Batch(to_float(torch.randint(100, 140, (32, 1, 8, 8), generator=generator, dtype=torch.uint8)))
    phase = network.phases()[-1]

    def bound():
        torch.manual_seed(2)
        with torch.inference_mode():
            terms = network.bound_terms(batch.images)
        return float((terms["L_t"] + terms["L_0"]).mean())

    before = bound()
    for step in range(40):
        torch.manual_seed(step)
        phase.optimizer.zero_grad()
        network.loss(phase.name, batch).backward()
        phase.optimizer.step()
    variance = network.net.head.bias.detach().view(2, -1)[1]
    assert variance.abs().min() > 0 and bound() < before


@each_model
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"objective": "hybrid"}, "objective: hybrid trains a learned variance, and variance is beta"),
        ({"objective": "hybrid", "variance": "posterior"}, "variance is posterior"),
        ({"variance": "learned"}, "variance: learned is not trained by the objective simple"),
        ({**HYBRID, "vlb_weight": 0}, "vlb_weight"),
    ],
)
def test_what_makes_no_sense_is_refused(model, config, message):
    with pytest.raises(ValidationError, match=message):
        tiny(model, **config)


def test_bits_of_a_learned_variance_on_noise_are_no_less_than_noise_has():
    model = tiny(DDPM, **HYBRID, bound_strata=0).eval()
    torch.manual_seed(0)
    noise = to_float(torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8))
    with torch.inference_mode():
        assert float(-model.log_prob(noise).mean()) / 64 / math.log(2) > 8
