"""PixelIQN: its loss against closed forms and empirical quantiles, and the quantiles that it learns."""

import pytest
import torch

from genbench import Batch, DataSpec
from genbench.images import dequantize
from genbench_autoregressive.pixeliqn import LIMIT, PixelIQN, QuantileHead, draw_tau, quantile_huber, to_level, to_value


def test_the_loss_is_half_a_square_near_zero_and_a_tilted_line_beyond():
    error, kappa = torch.tensor([-3.0, -0.1, 0.0, 0.1, 3.0]), 0.5
    linear = (3.0 - kappa / 2, 0.5 * 0.1**2 / kappa)
    wanted = [0.75 * linear[0], 0.75 * linear[1], 0, 0.25 * linear[1], 0.25 * linear[0]]
    torch.testing.assert_close(quantile_huber(error, torch.tensor(0.25), kappa), torch.tensor(wanted))


def test_with_logits_of_tau_spread_evenly_the_mean_loss_is_the_logarithmic_score_of_the_distribution_function():
    """Of a value that is 1 with probability p, else 0, where 1 is predicted with probability q: p log q is in it."""
    torch.manual_seed(0)
    p, q = 0.02, torch.tensor([0.005, 0.02, 0.08])
    tau = draw_tau(100_000, torch.zeros(3), "logit")
    drawn = (tau > 1 - q).float()
    loss = sum(share * quantile_huber(value - drawn, tau, 1e-6).mean(0) for share, value in ((p, 1.0), (1 - p, 0.0)))
    wanted = -(p * q.log() + (1 - p) * (1 - q).log()) / (2 * LIMIT)
    torch.testing.assert_close(loss, wanted, rtol=0.01, atol=0)


@pytest.mark.parametrize("how", ["logit", "uniform"])
def test_values_of_tau_lie_in_equal_shares_of_what_is_uniform(how):
    tau = draw_tau(8, torch.zeros(50, 3), how)
    place = tau.logit() / LIMIT / 2 + 0.5 if how == "logit" else tau
    assert torch.equal((8 * place).floor(), torch.arange(8.0).view(8, 1, 1).expand(8, 50, 3))


def test_the_head_can_jump_at_a_rare_tau():
    """A sub-pixel that is white with probability 0.002 is black at tau = 0.99 and white at 0.9999."""
    torch.manual_seed(0)
    head, features = QuantileHead(4, 16), torch.ones(4)
    optimizer = torch.optim.Adam(head.parameters(), 2e-2)
    for _ in range(600):
        optimizer.zero_grad()
        white = torch.rand(64) < 0.002
        tau = draw_tau(16, white, "logit")
        quantile_huber(white.float() * 1.99 - 0.995 - head(features, tau), tau, 4e-3).mean().backward()
        optimizer.step()
    with torch.no_grad():
        below, above = head(features, torch.tensor([0.99, 0.9999]))
    assert below < -0.9 and above > 0.9


@pytest.mark.parametrize("tau", [0.1, 0.5, 0.9])
def test_the_loss_is_least_at_the_quantile(tau):
    target = torch.randn(2000, generator=torch.Generator().manual_seed(0)).exp()
    guesses = torch.linspace(0, 6, 601)
    loss = quantile_huber(target - guesses[:, None], torch.tensor(tau), 1e-4).mean(1)
    assert guesses[loss.argmin()].item() == pytest.approx(target.quantile(tau).item(), abs=0.02)


def test_levels_reach_from_black_to_white_and_what_is_drawn_is_rounded_to_the_nearest():
    levels = torch.arange(256)
    values = to_value(levels)
    assert values[0] == -1 and values[-1] == 1
    for shift in (-0.49, 0, 0.49):
        assert torch.equal(to_level((values + shift * 2 / 255).clamp(-1, 1)), levels)


def test_what_tau_decides_is_its_own_sub_pixel_alone():
    head, tau = QuantileHead(8, 16), torch.rand(5)
    torch.nn.init.normal_(head.out.weight)
    found = torch.autograd.functional.jacobian(lambda t: head(torch.rand(5, 8), t), tau)
    assert torch.equal(found != 0, torch.eye(5).bool())


def test_before_training_it_draws_noise_of_all_levels():
    torch.manual_seed(0)
    model = PixelIQN(DataSpec("toy", (1, 8, 8)), PixelIQN.Config(**PixelIQN.presets["tiny"]))
    with torch.no_grad():
        drawn = model.sample(100)
    torch.testing.assert_close(drawn.flatten().sort().values, torch.linspace(-1, 1, 6400), atol=0.06, rtol=0)


def test_sub_pixels_beyond_the_image_have_no_part_in_the_loss():
    """Whatever their values, which only their own features and biases decide."""
    model = PixelIQN(DataSpec("toy", (1, 3, 3)), PixelIQN.Config(**PixelIQN.presets["tiny"]))
    images, seen = torch.rand(2, 1, 3, 3) * 1.98 - 0.99, []
    model.head.register_forward_hook(lambda head, given, out: seen.append(out) or out)
    torch.manual_seed(0)
    loss = model.loss("train", Batch(images))
    gradient = torch.autograd.grad(loss, seen[0])[0]
    assert torch.equal(gradient != 0, model.order.inside().expand_as(gradient))


def pairs(n, seed):
    """Two pixels: the first is 0 to 127 or 192 to 255, as likely; the second lies below it, at all levels alike."""
    g = torch.Generator().manual_seed(seed)
    low, high = torch.randint(0, 128, (n,), generator=g), torch.randint(192, 256, (n,), generator=g)
    first = torch.where(torch.rand(n, generator=g) < 0.5, low, high)
    second = (torch.rand(n, generator=g) * (first + 1)).long()
    levels = torch.stack([first, second], 1).view(n, 1, 1, 2).to(torch.uint8)
    return dequantize(levels, g)


def test_known_quantiles_are_recovered():
    torch.manual_seed(0)
    options = {"width": 32, "layers": 2, "head": 32, "patch": 1, "quantiles": 8, "embedding": 0, "learning_rate": 1e-2}
    model = PixelIQN(DataSpec("toy", (1, 1, 2)), PixelIQN.Config(**options))
    optimizer, steps = model.phases()[0].optimizer, 400
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for step in range(steps):
        optimizer.zero_grad()
        model.loss("train", Batch(pairs(128, step))).backward()
        optimizer.step()
        schedule.step()
    tau = torch.tensor([0.1, 0.25, 0.4, 0.6, 0.75, 0.9])

    def quantiles(levels, column):
        folded = torch.tensor(levels).view(1, 1, 2, 1)
        return model.head(model.trunk(folded)[0, 0, column, 0], tau)

    with torch.no_grad():
        torch.testing.assert_close(quantiles([0, 0], 0), torch.where(tau < 0.5, 2 * tau - 1, tau), atol=0.08, rtol=0)
        for level in (60, 100, 200, 250):
            torch.testing.assert_close(quantiles([level, 0], 1), tau * (level + 1) / 128 - 1, atol=0.08, rtol=0)
