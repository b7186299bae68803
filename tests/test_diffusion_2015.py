"""The diffusion of 2015 against closed forms: schedule, step, variance, and a network that is blind to the time."""

import math

import pytest
import torch
from pydantic import ValidationError

from genbench import Batch, DataSpec
from genbench.images import to_float
from genbench.walks import end_of
from genbench_ddpm import DDPM
from genbench_ddpm.diffusion import Diffusion, erasing_betas, linear_betas
from genbench_ddpm.original import bump_weights
from genbench_ddpm.samplers import ancestral, ddim

SMALL = DDPM.presets["small-2015"]
MNIST = {"branch_layers": 4, "conv_width": 20, "dense_width": 500, "dense_outputs": 2, "pixel_layers": 2} | {
    "pixel_width": 20
}
"""The authors' code without arguments."""


def built(shape=(1, 8, 8), preset="small-2015", num_classes=0, **change):
    torch.manual_seed(0)
    few = {"dense_width": 32, "timesteps": 50, "steps": 10} if preset == "small-2015" else {}
    return DDPM(DataSpec("toy", shape, num_classes), DDPM.Config(**DDPM.presets[preset] | few | change))


def images(n, shape=(1, 8, 8)):
    generator = torch.Generator().manual_seed(1)
    return to_float(torch.randint(100, 140, (n, *shape), generator=generator, dtype=torch.uint8))


# The process


def test_every_step_erases_an_equal_part_of_the_image():
    process = Diffusion(erasing_betas(10), "shift", "free")
    assert process.beta[1:].tolist() == [pytest.approx(1 / (10 - t + 1)) for t in range(1, 11)]
    torch.testing.assert_close(process.alpha_bar, 1 - torch.arange(11).double() / 10)
    assert process.alpha_bar[-1] == 0 and float(process.prior_term(torch.randn(3, 4)).abs().max()) == 0


@pytest.mark.parametrize("betas", [erasing_betas(7), linear_betas(7, 0.01, 0.5)], ids=["erase", "linear"])
def test_a_network_that_says_nothing_reverses_noise_exactly(betas):
    """With m = s = 0 a step back is a step forward: the bound of standard normal data is their entropy."""
    process = Diffusion(betas, "shift", "free")
    x_t, t = torch.randn(7, 5, dtype=torch.float64), torch.arange(1, 8)
    step = process.denoiser(lambda x, t: torch.zeros(len(x), 2 * x.shape[1], dtype=x.dtype))(x_t, t)
    beta = betas[:, None]
    torch.testing.assert_close(process.posterior_mean(step.x0, x_t, t), (1 - beta).sqrt() * x_t)
    torch.testing.assert_close(step.variance, beta.expand_as(x_t))
    moments = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=torch.float64)  # those of the standard normal
    eps = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64)
    total = process.prior_term(moments).mean()
    for t in range(1, 8):
        at = torch.full((4,), t)
        step = process.denoiser(lambda x, t: torch.zeros(len(x), 2, dtype=x.dtype))(
            process.diffuse(moments, at, eps), at
        )
        total += process.term(step, moments, at, discrete=False).mean()
    assert float(total) == pytest.approx(0.5 * math.log(2 * math.pi * math.e))


def test_a_free_variance_is_above_or_below_the_forward_steps():
    process = Diffusion(erasing_betas(100), "shift", "free")
    x, t = torch.zeros(5, 1, dtype=torch.float64), torch.full((5,), 50)
    said = torch.tensor([[-50.0], [-10.0], [0.0], [10.0], [50.0]], dtype=torch.float64)
    found = process.variance(x, t, said).flatten()
    assert found[2] == pytest.approx(1 / 51) and (found.diff() > 0).all() and found[0] > 0 and found[-1] < 1
    odds = found / (1 - found)
    torch.testing.assert_close(odds.log(), said.flatten() / 10 - math.log(50))
    assert process.variance(x[:1], torch.tensor([100]), said[:1]) == 1, "nothing is left of the image at t = T"


def test_the_bound_of_noise_is_no_less_than_noise_has():
    model = built(bound_strata=0).eval()
    generator = torch.Generator().manual_seed(0)
    noise = to_float(torch.randint(0, 256, (64, 1, 8, 8), generator=generator, dtype=torch.uint8))
    with torch.no_grad():
        assert float(-model.log_prob(noise).mean()) / 64 / math.log(2) > 8


@pytest.mark.parametrize("walk", [ancestral, lambda *words: ddim(*words, steps=5, eta=1.0)], ids=["ancestral", "ddim"])
def test_samplers_reach_a_point_that_the_network_knows(walk):
    """The exact step towards x_0 = 0.3, from noise in which nothing of it is left."""
    process = Diffusion(erasing_betas(40), "shift", "free")

    def knows(x, t):
        mean = process.posterior_mean(torch.full_like(x, 0.3), x, t)
        beta = process.at(process.beta, t, x)
        return torch.cat([(mean - (1 - beta).sqrt() * x) / beta.sqrt(), torch.zeros_like(x)], 1)

    found = end_of(walk(process, process.denoiser(knows), torch.randn(50, 3, dtype=torch.float64)))
    torch.testing.assert_close(found, torch.full_like(found, 0.3))


# The network


def test_parameters_are_those_of_the_authors_code():
    """For CIFAR-10, and for MNIST without arguments; one bias per filter."""
    with torch.device("meta"):
        cifar, mnist = built((3, 32, 32), "paper-2015").net, built((1, 28, 28), "paper-2015", **MNIST).net
    assert sum(p.numel() for p in cifar.parameters()) == 453_300 + 12_202_120 + 36_860 == 12_692_280
    assert sum(p.numel() for p in mnist.parameters()) == 1_691_008


def test_bumps_share_the_time_evenly():
    weights = bump_weights(torch.arange(1, 1001), 1000, 10)
    torch.testing.assert_close(weights.sum(1), torch.ones(1000))
    assert weights[0].argmax() == 0 and weights[-1].argmax() == 9
    torch.testing.assert_close(weights.flip(0).flip(1), weights)
    centre = bump_weights(torch.tensor([334]), 1000, 10)[0]  # the fourth: 1 + 3 * 999 / 9
    torch.testing.assert_close(centre[[2, 4]] / centre[3], torch.full((2,), math.exp(-2)))


@pytest.mark.parametrize("bumps", [2, 3])
def test_the_network_knows_the_time_by_its_bumps_alone(bumps):
    net = built((1, 6, 6), bumps=bumps).net
    with torch.no_grad():
        said = net(torch.randn(1, 1, 6, 6).expand(50, -1, -1, -1), torch.arange(1, 51)).flatten(1)
    assert torch.linalg.matrix_rank(said, rtol=1e-4) == bumps


def test_a_pixel_far_away_is_seen_by_the_dense_branch_alone():
    for width, seen in ((0, False), (8, True)):
        net = built((1, 16, 16), dense_width=width, branch_layers=2).net
        x = torch.randn(1, 1, 16, 16, requires_grad=True)
        net(x, torch.tensor([9]))[0, :, 0, 0].sum().backward()
        assert bool(x.grad[0, 0, 12, 12] != 0) is seen and x.grad[0, 0, 0, 0] != 0


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 15, 13)], ids=["colour", "odd"])
def test_it_trains_and_its_bound_falls(shape):
    model, batch = built(shape), Batch(images(16, shape))
    phase = model.phases()[0]

    def bound():
        torch.manual_seed(2)
        with torch.no_grad():
            return float(sum(model.bound_terms(batch.images).values()).mean())

    before = bound()
    for step in range(20):
        torch.manual_seed(step)
        phase.optimizer.zero_grad()
        model.loss("train", batch).backward()
        phase.optimizer.step()
    assert bound() < before and all(p.grad is not None for p in model.net.parameters())
    with torch.no_grad():
        assert model.eval().sample(2).shape == (2, *shape)


@pytest.mark.slow
def test_the_published_network_trains_and_samples():
    model = built((3, 32, 32), "paper-2015", timesteps=3)
    model.loss("train", Batch(images(2, (3, 32, 32)))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.net.parameters())
    with torch.no_grad():
        assert model.eval().sample(1).shape == (1, 3, 32, 32)


def test_hyper_parameters_of_the_authors_code():
    config = DDPM.Config(**DDPM.presets["paper-2015"])
    assert (config.timesteps, config.schedule, config.bumps, config.network_calls) == (1000, "erase", 10, 1000)
    assert (config.batch_size, config.learning_rate, config.betas) == (200, 1e-3, (0.0, 0.9))
    assert (config.objective, config.ema_decay, config.flip) == ("variational", 0.0, False)


# What makes no sense


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "simple"}, "variance: free is not trained by the objective simple"),
        ({"prediction": "eps"}, "prediction: eps says nothing of x_0 at t = T"),
        ({"bumps": 1}, "bumps"),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        built(**change)


def test_it_takes_no_labels():
    config = DDPM.Config(**SMALL)
    config.check(DataSpec("toy", (1, 8, 8)))
    with pytest.raises(ValueError, match="network: original takes no condition"):
        config.check(DataSpec("toy", (1, 8, 8), num_classes=3))


def test_options_of_the_other_network_have_no_effect():
    original, unet = DDPM.Config(**SMALL), DDPM.Config()
    assert original.unused("widths") == original.unused("fourier") == "network = original"
    assert unet.unused("bumps") == "network = unet" and not unet.unused("widths") and not original.unused("bumps")
