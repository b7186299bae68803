"""Densities that sum to one, draws that follow them, and bounds with known answers."""

import math

import pytest
import torch

from genbench.distributions import (
    discretized_gaussian,
    discretized_logistic_log_prob,
    importance_bound,
    logistic_draw,
    normal_draw,
    normal_log_prob,
    standard_normal_kl,
)
from genbench.images import LEVELS, to_float, to_uint8

CENTRES = to_float(torch.arange(LEVELS, dtype=torch.uint8))


@pytest.mark.parametrize("log_scale", [-15.0, -8.0, -5.0, -3.0, 0.0, 3.0])
@pytest.mark.parametrize("mean", [-1.5, -1.0, -0.3, 0.0, 0.99609375, 1.2])
def test_the_256_levels_sum_to_one(mean: float, log_scale: float) -> None:
    log_prob = discretized_logistic_log_prob(CENTRES, torch.tensor(mean), torch.tensor(log_scale))
    assert torch.isfinite(log_prob).all()
    assert log_prob.double().exp().sum().item() == pytest.approx(1, abs=2e-6)


def test_probabilities_are_differences_of_the_cumulative_distribution() -> None:
    mean, scale = torch.tensor(0.2, dtype=torch.float64), 0.05
    edges = (torch.arange(1, LEVELS, dtype=torch.float64) / 128 - 1 - mean) / scale
    cumulative = torch.cat([torch.zeros(1), torch.sigmoid(edges), torch.ones(1)])
    log_prob = discretized_logistic_log_prob(CENTRES, mean, torch.tensor(math.log(scale)))
    # The reference itself loses digits in the upper tail, hence the absolute tolerance.
    torch.testing.assert_close(log_prob.double().exp(), cumulative.diff(), rtol=1e-5, atol=1e-8)


def test_far_bins_keep_their_exact_value_and_gradient_at_small_scales() -> None:
    mean = torch.tensor(-0.5, requires_grad=True)
    log_scale = torch.tensor(-9.0, requires_grad=True)
    centre = CENTRES[200]
    log_prob = discretized_logistic_log_prob(centre, mean, log_scale)
    expected = -(centre.item() - 1 / LEVELS + 0.5) * math.exp(9.0)  # the upper tail: exp(-distance / scale)
    assert log_prob.item() == pytest.approx(expected, rel=1e-5)
    log_prob.backward()
    assert mean.grad is not None and mean.grad.item() == pytest.approx(math.exp(9.0), rel=1e-4)
    assert log_scale.grad is not None and torch.isfinite(log_scale.grad)


def test_a_very_wide_logistic_is_half_each_in_the_outer_bins() -> None:
    prob = discretized_logistic_log_prob(CENTRES, torch.tensor(0.0), torch.tensor(12.0)).exp()
    assert prob[0].item() == pytest.approx(0.5, abs=1e-4) and prob[-1].item() == pytest.approx(0.5, abs=1e-4)


def test_quantised_draws_follow_the_discretised_distribution() -> None:
    torch.manual_seed(0)
    n, mean, log_scale = 200_000, torch.tensor(0.97), torch.tensor(-4.0)
    draws = logistic_draw(mean.expand(n), log_scale)
    assert draws.abs().max() <= 1
    share = torch.bincount(to_uint8(draws).long(), minlength=LEVELS) / n
    prob = discretized_logistic_log_prob(CENTRES, mean, log_scale).exp()
    assert ((share - prob).abs() <= 4.5 * (prob * (1 - prob) / n).sqrt() + 1e-5).all()


def test_quantised_draws_follow_the_discretised_gaussian() -> None:
    torch.manual_seed(0)
    n, mean, log_std = 200_000, torch.tensor(0.97), torch.tensor(-3.5)
    draws = normal_draw(mean.expand(n), log_std)
    assert draws.abs().max() <= 1
    share = torch.bincount(to_uint8(draws).long(), minlength=LEVELS) / n
    prob = discretized_gaussian(CENTRES, mean, log_std.exp()).exp()
    assert prob[-1] > 0.1  # the tail above the last level
    assert ((share - prob).abs() <= 4.5 * (prob * (1 - prob) / n).sqrt() + 1e-5).all()


def test_kl_is_zero_for_the_prior_and_the_expected_log_ratio_elsewhere() -> None:
    zero = torch.zeros(())
    assert standard_normal_kl(zero, zero).item() == 0
    torch.manual_seed(0)
    mean, log_std = torch.tensor(0.7), torch.tensor(-0.4)
    z = mean + log_std.exp() * torch.randn(400_000)
    ratio = normal_log_prob(z, mean, log_std) - normal_log_prob(z, zero, zero)
    error = ratio.std() / math.sqrt(len(z))
    assert abs(ratio.mean() - standard_normal_kl(mean, log_std)) < 4 * error


def test_normal_log_prob_is_torch_s() -> None:
    x, mean, log_std = torch.randn(3, 50)
    expected = torch.distributions.Normal(mean, log_std.exp()).log_prob(x)
    torch.testing.assert_close(normal_log_prob(x, mean, log_std), expected)


class LinearVAE:
    """x = W z + mu + noise: log p(x) is N(mu, W W' + s^2 I), and the exact posterior is Gaussian (Tipping 1999)."""

    def __init__(self, dims: int = 6, latent: int = 2, noise: float = 0.5) -> None:
        generator = torch.Generator().manual_seed(1)
        self.weight = torch.randn(dims, latent, generator=generator, dtype=torch.float64)
        self.noise = torch.tensor(noise, dtype=torch.float64)
        self.images = torch.randn(300, latent, generator=generator, dtype=torch.float64) @ self.weight.T
        self.images = self.images + noise * torch.randn(300, dims, generator=generator, dtype=torch.float64)
        self.covariance = self.weight @ self.weight.T + noise**2 * torch.eye(dims, dtype=torch.float64)
        precision = torch.eye(latent, dtype=torch.float64) + self.weight.T @ self.weight / noise**2
        self.posterior_covariance = precision.inverse()
        self.posterior_mean = self.images @ self.weight @ self.posterior_covariance / noise**2

    def exact(self) -> torch.Tensor:
        zero = torch.zeros(len(self.covariance), dtype=torch.float64)
        return torch.distributions.MultivariateNormal(zero, self.covariance).log_prob(self.images)

    def log_weight(self, shift: float = 0.0, widen: float = 1.0) -> torch.Tensor:
        """One draw from the posterior, moved and widened, and its log weight."""
        q = torch.distributions.MultivariateNormal(self.posterior_mean + shift, self.posterior_covariance * widen)
        z = q.sample()
        prior = normal_log_prob(z, torch.zeros(()), torch.zeros(())).sum(1)
        likelihood = normal_log_prob(self.images, z @ self.weight.T, self.noise.log()).sum(1)
        return prior + likelihood - q.log_prob(z)


def test_with_the_exact_posterior_every_draw_of_the_bound_is_log_p() -> None:
    torch.manual_seed(0)
    model = LinearVAE()
    for k in (1, 7):
        torch.testing.assert_close(importance_bound(model.log_weight, k), model.exact(), rtol=0, atol=1e-9)


def test_with_another_posterior_the_bound_is_below_log_p_and_rises_with_k() -> None:
    torch.manual_seed(0)
    model, bounds = LinearVAE(), []
    for k in (1, 10, 100, 1000):
        gap = importance_bound(lambda: model.log_weight(shift=0.3, widen=1.7), k) - model.exact()
        error = gap.std() / math.sqrt(len(gap))
        assert gap.mean() <= 3 * error
        bounds.append(gap.mean().item())
    assert bounds == sorted(bounds)
    assert bounds[0] < -0.3 and abs(bounds[-1]) < 0.01


def test_the_bound_averages_weights_not_their_logarithms() -> None:
    weights = iter([torch.tensor([0.0]), torch.tensor([math.log(3.0)])])
    assert importance_bound(lambda: next(weights), 2).item() == pytest.approx(math.log(2.0))
