"""From noise to data by a `Denoiser`, whatever network is behind it.

A sampler is a walk: an iterator over (t, x_t) from where it starts down to t = 0, whose end is the sample.
"""

from collections import deque
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from genbench_ddpm.diffusion import Denoiser, Diffusion

Walk = Iterator[tuple[int, Tensor]]


def end_of(walk: Walk) -> Tensor:
    """x_0."""
    ((_, x),) = deque(walk, maxlen=1)
    return x


def ancestral(diffusion: Diffusion, denoise: Denoiser, noise: Tensor, start: int | None = None) -> Walk:
    """By p(x_{t-1} | x_t) from `noise`, x_T or x_start; the last step adds none. Source: Ho et al. 2020, alg. 2."""
    x, start = noise, diffusion.steps if start is None else start
    yield start, x
    for step in range(start, 0, -1):
        t = torch.full((len(x),), step, device=x.device)
        x0, variance = denoise(x, t)
        x = diffusion.posterior_mean(x0, x, t)
        if step > 1:
            x = x + variance.sqrt() * torch.randn_like(x)
        yield step - 1, x


def ddim_times(total: int, steps: int) -> list[int]:
    """`steps` times from T down, evenly spread, and 0 behind them."""
    return [round(total * k / steps) for k in range(steps, -1, -1)]


def ddim_variance(diffusion: Diffusion, now: int, then: int, eta: float) -> Tensor:
    """sigma^2 of the jump from t = `now` to `then`; the posterior's at eta = 1. Source: Song et al. 2021, eq. 16."""
    a, b = diffusion.alpha_bar[now], diffusion.alpha_bar[then]
    return eta**2 * (1 - b) / (1 - a) * (1 - a / b)


def ddim(
    diffusion: Diffusion, denoise: Denoiser, noise: Tensor, steps: int = 50, eta: float = 0.0, start: int | None = None
) -> Walk:
    """By `steps` network calls from `noise`, which is x_T or x_start, and the only noise at eta = 0.

    Source: Song et al. 2021, eq. 12.
    """
    x, start = noise, diffusion.steps if start is None else start
    yield start, x
    for now, then in pairwise(ddim_times(start, min(steps, start))):
        x0 = denoise(x, torch.full((len(x),), now, device=x.device)).x0
        eps = (x - diffusion.signal[now].to(x.dtype) * x0) / diffusion.noise[now].to(x.dtype)
        variance = ddim_variance(diffusion, now, then, eta)
        direction = (1 - diffusion.alpha_bar[then] - variance).clamp(min=0).sqrt().to(x.dtype)
        x = diffusion.signal[then].to(x.dtype) * x0 + direction * eps
        if eta > 0 and then > 0:
            x = x + variance.sqrt().to(x.dtype) * torch.randn_like(x)
        yield then, x
