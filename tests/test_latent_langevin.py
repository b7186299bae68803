"""DDLS: calibrated critics are log density ratios, and Langevin dynamics of latents reaches known densities."""

import math

import pytest
import torch
from test_gan import batch, make
from torch import Tensor, nn
from torch.nn import functional as F

from genbench import Batch
from genbench.conformance.case import Case
from genbench.metering.flops import FlopCounter
from genbench_gan import GAN, GANConfig
from genbench_gan.latent_langevin import calibration, latent_langevin


def walked(log_ratio: object, n: int = 4000, dims: int = 2, **options: object) -> Tensor:
    """Latents after DDLS from the prior."""
    torch.manual_seed(0)
    config = GANConfig(sampler="latent_langevin", **options)
    with torch.no_grad():
        return latent_langevin(torch.randn(n, dims), log_ratio, config, lambda share: None)


# Calibration


def test_calibrated_scores_of_two_gaussians_are_their_log_density_ratio() -> None:
    """N(1, 4) against N(-2, 4): log p/q = (6 x + 3) / 8."""
    torch.manual_seed(0)
    scale, offset = calibration(1 + 2 * torch.randn(50_000), -2 + 2 * torch.randn(50_000)).tolist()
    assert scale == pytest.approx(6 / 8, rel=0.02) and offset == pytest.approx(3 / 8, abs=0.02)


def test_calibration_undoes_any_scale_and_offset_of_the_scores() -> None:
    torch.manual_seed(0)
    real, fake = 1 + torch.randn(500), torch.randn(500)
    scale, offset = calibration(real, fake)
    again = calibration(100 * real - 7, 100 * fake - 7)
    torch.testing.assert_close(again[0] * (100 * real - 7) + again[1], scale * real + offset, atol=1e-3, rtol=1e-3)


def test_calibration_stays_finite_and_tells_no_more_than_the_number_of_images_allows() -> None:
    apart = calibration(torch.linspace(5, 6, 100), torch.linspace(-6, -5, 100))
    assert apart.isfinite().all() and (apart[0] * 5.5 + apart[1]).item() == pytest.approx(math.log(101), rel=0.2)
    same = calibration(torch.zeros(10), torch.zeros(10))
    assert same.isfinite().all() and abs(same[1].item()) < 1e-3


# Known densities


@pytest.mark.parametrize("step_size", [0.1, 0.5, 1.0])
def test_a_constant_ratio_leaves_the_prior_unchanged_whatever_the_step(step_size: float) -> None:
    z = walked(lambda z: 0 * z.sum(1), steps=30, step_size=step_size)
    assert z.mean().item() == pytest.approx(0, abs=0.04) and z.var().item() == pytest.approx(1, abs=0.05)
    assert torch.corrcoef(z.T)[0, 1].item() == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("step_size", [0.1, 0.5])
def test_a_linear_ratio_shifts_the_prior_exactly_whatever_the_step(step_size: float) -> None:
    """N(z; 0, I) exp(a z) is N(a, I) up to a constant."""
    a = torch.tensor([1.5, -0.5])
    z = walked(lambda z: z @ a, steps=80, step_size=step_size)
    torch.testing.assert_close(z.mean(0), a, atol=0.05, rtol=0)
    torch.testing.assert_close(z.var(0), torch.ones(2), atol=0.07, rtol=0)


def test_a_quadratic_ratio_narrows_the_prior() -> None:
    """N(z; 0, 1) exp(-b z^2 / 2) is N(0, 1 / (1 + b)) up to a constant; b = 3."""
    z = walked(lambda z: -3 * z.square().sum(1) / 2, steps=100, step_size=0.02)
    assert z.var().item() == pytest.approx(1 / 4, rel=0.06)


def test_a_generator_and_a_calibrated_critic_of_known_ratio_give_the_target() -> None:
    """x = tanh(z) in one pixel; the critic's score s = atanh(x) / 2 - 1 is calibrated by 4 s + 1 = 2 z - 3: N(2, 1)."""

    class Painter(nn.Module):
        def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
            return z[:, :1, None, None].tanh().expand(-1, 1, 8, 8)

    class Judge(nn.Module):
        def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
            return images[:, 0, 0, 0].double().clamp(-1 + 1e-12, 1 - 1e-12).atanh().float() / 2 - 1

    model = make(sampler="latent_langevin", steps=60, step_size=0.1).eval()
    model.generator, model.critic = Painter(), Judge()
    model.calibration.copy_(torch.tensor([4.0, 1.0]))
    torch.manual_seed(0)
    with torch.no_grad():
        z = model.sample(2000)[:, 0, 0, 0].double().atanh()
    assert z.mean().item() == pytest.approx(2, abs=0.08) and z.std().item() == pytest.approx(1, abs=0.08)


def test_without_temperature_the_chain_climbs_to_the_mode() -> None:
    z = walked(lambda z: 3 * z[:, 0], n=50, steps=200, step_size=0.1, temperature=0.0)
    torch.testing.assert_close(z, torch.tensor([3.0, 0.0]).expand(50, 2), atol=1e-3, rtol=0)


def test_each_step_is_reported() -> None:
    seen: list[float] = []
    latent_langevin(torch.zeros(2, 3), lambda z: z.sum(1), GANConfig(steps=4), seen.append)
    assert seen == [0.25, 0.5, 0.75, 1.0]


# In the model


def test_settling_calibrates_the_critic_on_real_against_generated_images() -> None:
    model = make(classes=3)
    for p in model.critic.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    model.eval()
    with torch.no_grad():
        fakes = model.fakes(300, torch.arange(300) % 3)
        real = Batch((fakes + 0.5).clamp(-1, 1), torch.arange(300) % 3)
        torch.manual_seed(1)
        model.settle(real)
        ratios = [model.log_ratio(images, real.labels) for images in (real.images, model.fakes(300, real.labels))]
    assert not torch.equal(model.calibration, torch.tensor([1.0, 0.0]))
    losses = [
        sum(F.softplus(sign * (k * ratio + b)).mean().item() for sign, ratio in zip((-1, 1), ratios))
        for k, b in [(1, 0), (1.3, 0), (0.7, 0), (1, 0.3), (1, -0.3)]
    ]
    assert min(losses) == losses[0]


def test_a_finished_training_is_sampled_anew_without_another() -> None:
    """Options of sampling are no part of the training, and its state holds all that sampling needs."""
    plain, walk = GANConfig(), GANConfig(sampler="latent_langevin", steps=9, step_size=0.5, temperature=0.5)
    assert plain.of_role("train") == walk.of_role("train") and plain.of_role("sample") != walk.of_role("sample")
    config = GANConfig(**GAN.presets["tiny"] | {"sampler": "latent_langevin", "steps": 3})
    case = Case(GAN, config, (1, 8, 8), "class")
    assert case.trained.calibration[0] != 1
    other = GAN(case.spec, config.model_copy(update={"sampler": "prior"}))
    other.load_state_dict(case.trained.state_dict())
    assert not torch.equal(case.sample(other), case.drawn)
    assert (other.nfe, case.trained.nfe) == (1, 13)


def test_evaluations_are_counted_as_flops_count_them() -> None:
    flops = {}
    for steps in (0, 3):
        model = make(sampler="latent_langevin" if steps else "prior", steps=max(1, steps)).eval().requires_grad_(False)
        with FlopCounter() as counter, torch.no_grad():
            model.sample(4)
        flops[model.nfe] = counter.flops
    with FlopCounter() as counter, torch.no_grad():
        model.critic(torch.zeros(4, 1, 8, 8))
    assert list(flops) == [1, 1 + 3 * 2 * 2]
    assert flops[13] - flops[1] == pytest.approx(3 * 2 * (flops[1] + counter.flops), rel=0.02)


def test_langevin_samples_score_higher_than_those_of_the_prior() -> None:
    model, labels = make(classes=3).eval(), torch.arange(64) % 3
    model.calibration.copy_(torch.tensor([30.0, 0.0]))
    scores = []
    for sampler in ("prior", "latent_langevin"):
        model.config = GANConfig(**GAN.presets["tiny"] | {"sampler": sampler, "steps": 20, "step_size": 0.05})
        torch.manual_seed(1)
        with torch.no_grad():
            scores.append(model.critic(model.sample(64, labels), labels).mean().item())
    assert scores[1] > scores[0]


def test_critics_whose_scores_depend_on_the_rest_of_the_batch_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from genbench_gan.networks import ConvCritic

    monkeypatch.setattr(ConvCritic, "separate", False)
    with pytest.raises(ValueError, match="sampler = 'latent_langevin'"):
        make(sampler="latent_langevin")
    assert make().loss("critic", batch(make(), 4))["loss"].isfinite()
