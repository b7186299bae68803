"""Densities, draws and bounds that several likelihood models share: in nats, float32 unless stated, stateless."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from genbench.images import LEVELS

BIN = 2 / LEVELS
"""Width of one of the 256 bins on [-1, 1)."""


def discretized_logistic_log_prob(centres: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log probability, nats, of the levels with the given bin centres (`images.to_float`), elementwise.

    A logistic with location `mean` and scale exp(`log_scale`) is integrated over the bin; the two outer bins take the
    tails, so the 256 probabilities sum to 1. Arguments broadcast. For the bin [a, b) it is computed as
    sigmoid(b) sigmoid(-a) (1 - exp(a - b)), which loses no digits however small the scale. Source: Salimans et al.
    2017, section 2.1.
    """
    scale = log_scale.float().clamp(-20, 20).exp()
    lower = (centres.float() - BIN / 2 - mean.float()) / scale
    width = BIN / scale
    below_upper, above_lower = F.logsigmoid(lower + width), F.logsigmoid(-lower)
    inside = below_upper + above_lower + (-torch.expm1(-width)).log()
    inside = torch.where(centres < -1 + BIN, below_upper, inside)
    return torch.where(centres > 1 - BIN, above_lower, inside)


def logistic_draw(mean: Tensor, log_scale: Tensor) -> Tensor:
    """A draw from the same logistic, clamped to [-1, 1]: its `images.to_uint8` has the discretised distribution."""
    uniform = torch.rand_like(mean, dtype=torch.float32).clamp(1e-7, 1 - 1e-7)
    return (mean.float() + log_scale.float().exp() * uniform.logit()).clamp(-1, 1)


def log_interval(low: Tensor, high: Tensor) -> Tensor:
    """log(Phi(high) - Phi(low)) of the standard normal for low < high, accurate even far out in either tail."""
    flip = low + high > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    top: Tensor = torch.special.log_ndtr(high)
    return top + torch.log(-torch.expm1(torch.special.log_ndtr(low) - top))


def discretized_gaussian(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log probability, nats, of the levels at the bin centres `images`, elementwise, float64; the outer bins are open.

    Source: Ho et al. 2020, eq. 13, with the bins of `genbench.images`.
    """
    images, mean, std = images.double(), mean.double(), std.double()
    low, high = (images - BIN / 2 - mean) / std, (images + BIN / 2 - mean) / std
    inside = log_interval(low, high)
    inside = torch.where(images < BIN - 1, torch.special.log_ndtr(high), inside)
    return torch.where(images > 1 - BIN, torch.special.log_ndtr(-low), inside)


def normal_draw(mean: Tensor, log_std: Tensor) -> Tensor:
    """A draw from a normal, clamped to [-1, 1]: its `images.to_uint8` is distributed as in `discretized_gaussian`."""
    mean, std = mean.float(), log_std.float().exp()
    return (mean + std * torch.randn_like(mean)).clamp(-1, 1)


def evenly_spread(n: int, device: torch.device) -> Tensor:
    """Uniform numbers in [0, 1), float32 (n,), spread evenly over a batch, in random order.

    Source: Kingma et al. 2021, appendix I.1.
    """
    return (torch.randperm(n, device=device) + torch.rand((), device=device)) / n


def normal_log_prob(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log density, nats, of a normal distribution, elementwise."""
    return -0.5 * ((x - mean) * (-log_std).exp()) ** 2 - log_std - 0.5 * math.log(2 * math.pi)


def standard_normal_kl(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, exp(log_std)^2) || N(0, 1)), nats, elementwise (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std


def importance_bound(log_weight: Callable[[], Tensor], k: int) -> Tensor:
    """log(1/k sum_i w_i): in expectation a lower bound on log p(x) that never decreases as `k` grows.

    `log_weight()` draws z ~ q(z|x) and returns log w = log p(x, z) - log q(z|x) for each image, (B,). Only one draw is
    held at a time, so memory does not grow with k. k = 1 estimates the ELBO. Source: Burda et al. 2016, equation 8.
    """
    total = log_weight()
    for _ in range(k - 1):
        total = torch.logaddexp(total, log_weight())
    return total - math.log(k)
