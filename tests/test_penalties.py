"""Penalties on gradients against closed forms, and what being lazy about them costs."""

import math

import pytest
import torch
from toys import train_toy

from genbench import Batch, DataSpec
from genbench_gan import GAN, GANConfig
from genbench_gan.penalties import PathLength, lazy_adam, r1_penalty

TINY = {"width": 8, "critic_width": 8, "latent": 8, "depth": 1, "batch_size": 8, "base": 4}


def train_gan(folder, digits, budget, **config):
    """A tiny GAN after training on digits, and its meter."""
    config = GANConfig(**TINY | config)
    job = {f"{role}_config": config.of_role(role) for role in ("train", "sample")}
    return train_toy(folder, digits, GAN, config=config.model_dump(mode="json"), budget=budget, **job)


def test_r1_of_a_linear_critic_is_the_square_of_its_slope():
    slope = torch.randn(3, 4, 4, requires_grad=True)
    penalty = r1_penalty(lambda images: (images * slope).sum((1, 2, 3)), torch.randn(5, 3, 4, 4))
    assert penalty.item() == pytest.approx(slope.square().sum().item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(penalty, slope)
    torch.testing.assert_close(gradient, 2 * slope.detach())


def test_r1_of_a_quadratic_critic_depends_on_where_the_images_are():
    images = torch.randn(6, 1, 3, 3)
    penalty = r1_penalty(lambda x: x.square().sum((1, 2, 3)) / 2, images)
    assert penalty.item() == pytest.approx(images.square().sum((1, 2, 3)).mean().item(), rel=1e-6)


@pytest.mark.parametrize("critic_steps", [1, 2])
def test_the_r1_phase_minimises_half_gamma_times_the_critic_s_updates_at_real_images(critic_steps):
    model = GAN(DataSpec("toy", (1, 8, 8)), GANConfig(**TINY, r1=3.0, r1_every=5, critic_steps=critic_steps))
    (phase,) = (phase for phase in model.phases() if phase.name == "r1")
    images = torch.randn(8, 1, 8, 8)
    model.eval()
    losses = model.loss("r1", Batch(images))
    penalty = r1_penalty(model.critic, images).item()
    assert losses["loss"].item() == pytest.approx(critic_steps * 5 * 3 / 2 * penalty, rel=1e-5)
    assert phase.every == 5 and phase.module is model.critic
    share = 5 * critic_steps / (5 * critic_steps + 1)
    assert phase.optimizer.param_groups[0]["betas"] == pytest.approx([beta**share for beta in model.config.betas])


def test_path_lengths_of_a_linear_generator_and_their_running_mean(monkeypatch):
    """Images A w have the Jacobian A whatever w is, so that |J^T y| is |A^T y|."""
    penalise, a = PathLength(), torch.randn(6, 48, requires_grad=True)
    y = torch.randn(4, 3, 4, 4)
    monkeypatch.setattr(torch, "randn_like", lambda images: y)
    lengths = (y.flatten(1) @ a.mT).norm(dim=1).detach() / math.sqrt(16)
    mean = 0.0
    for _ in range(3):
        w = torch.randn(4, 6, requires_grad=True)
        penalty, length = penalise((w @ a).view(4, 3, 4, 4), w)
        mean = 0.99 * mean + 0.01 * lengths.mean().item()
        assert penalise.mean.item() == length.item() == pytest.approx(mean, rel=1e-5)
        assert penalty.item() == pytest.approx((lengths - mean).square().mean().item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(penalty, a)
    step = 1e-3 * gradient / gradient.norm()
    lower = (y.flatten(1) @ (a - step).mT).norm(dim=1).detach() / 4
    assert (lower - mean).square().mean() < penalty


def test_the_length_of_a_path_does_not_depend_on_the_number_of_pixels():
    """|A^T y|^2 has the expectation |A|^2 / (H W): four times the pixels of the same slope have four times both."""
    torch.manual_seed(0)
    found = []
    for side in (4, 8):
        w = torch.randn(4000, 1, requires_grad=True)
        images = w[:, :, None, None].expand(-1, -1, side, side)
        penalise = PathLength()
        found.append(penalise(images, w)[1].item() / 0.01)
    expected = math.sqrt(2 / math.pi)  # of |N(0, 1)|
    assert found == pytest.approx([expected, expected], rel=0.05)


def test_evaluation_does_not_move_the_running_mean():
    penalise, w = PathLength().eval(), torch.ones(2, 1, requires_grad=True)
    penalise(w[:, :, None, None].expand(-1, -1, 2, 2), w)
    assert penalise.mean == 0


@pytest.mark.parametrize(("every", "share"), [(0, 1.0), (1, 0.5), (4, 4 / 5), (16, 16 / 17)])
def test_the_optimizer_of_a_lazy_penalty_is_slower_by_the_steps_that_it_takes_besides(every, share):
    optimizer = lazy_adam(torch.nn.Linear(2, 2), 0.01, (0.5, 0.9), every)
    (group,) = optimizer.param_groups
    assert group["lr"] == pytest.approx(0.01 * share)
    assert group["betas"] == pytest.approx((0.5**share, 0.9**share))


def test_penalties_cost_only_in_the_steps_that_compute_them(tmp_path, digits):
    lazy = {"network": "style", "mapping": 1, "r1": 1.0, "r1_every": 4, "path_length": 0.1, "path_every": 3}
    _, meter = train_gan(tmp_path / "lazy", digits, "7steps", **lazy)
    updates = {name: ledger.updates for name, ledger in meter.phases.items()}
    assert updates == {"critic": 7, "r1": 2, "generator": 7, "path_length": 3}
    each = {name: ledger.flops / ledger.updates for name, ledger in meter.phases.items()}
    _, none = train_gan(tmp_path / "none", digits, "7steps", **lazy | {"r1": 0.0, "path_length": 0.0})
    assert {name: ledger.updates for name, ledger in none.phases.items()} == {"critic": 7, "generator": 7}
    assert {name: ledger.flops / 7 for name, ledger in none.phases.items()} == {n: each[n] for n in none.phases}
    assert meter.flops == none.flops + 2 * each["r1"] + 3 * each["path_length"]
    assert each["r1"] > each["critic"] / 2


@pytest.mark.parametrize("network", ["conv", "residual", "style"])
def test_r1_works_with_any_network_and_makes_the_critic_flatter(network):
    torch.manual_seed(0)
    model = GAN(DataSpec("toy", (1, 8, 8)), GANConfig(**TINY, network=network, r1=1.0, spectral_norm=False))
    (phase,) = (phase for phase in model.phases() if phase.name == "r1")
    batch = Batch(torch.rand(8, 1, 8, 8) * 2 - 1)
    penalties = []
    for _ in range(30):
        phase.optimizer.zero_grad()
        losses = model.loss("r1", batch)
        losses["loss"].backward()
        phase.optimizer.step()
        penalties.append(losses["penalty"].item())
    assert penalties[-1] < 0.8 * penalties[0]


def test_a_path_length_penalty_has_no_place_in_other_networks():
    config = GANConfig(path_length=1.0)
    assert config.unused("path_length") == "network = conv"
    assert [phase.name for phase in GAN(DataSpec("toy", (1, 8, 8)), config).phases()] == ["critic", "generator"]
