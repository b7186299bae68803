"""What a diffusion process looks like: images on their way to noise and back, and between two images."""

from collections.abc import Callable

import torch
from torch import Tensor

from genbench.walks import Walk, end_of
from genbench_ddpm.diffusion import Diffusion


def forward_chain(diffusion: Diffusion, x0: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`count` times from 0 to T, int64, and x_t at each, (count, B, ...): one draw of the chain q.

    Each step from x_s to x_t draws from q(x_t | x_s), which is q(x_t | x_0) with alpha_bar_t / alpha_bar_s.
    """
    times = torch.unique(torch.linspace(0, diffusion.steps, count, device=x0.device).round().long())
    states, before = [x0], diffusion.alpha_bar[0]
    for alpha_bar in diffusion.alpha_bar[times[1:]]:
        kept = (alpha_bar / before).to(x0.dtype)
        states.append(kept.sqrt() * states[-1] + (1 - kept).sqrt() * torch.randn_like(x0))
        before = alpha_bar
    return times, torch.stack(states)


def between(
    diffusion: Diffusion, walk: Callable[[Tensor, int], Walk], first: Tensor, second: Tensor, weights: Tensor
) -> Tensor:
    """From `first` to `second`, (B, ...), at weights in [0, 1], (S,): (S, B, ...).

    Both are diffused to t = T / 2 with the same noise, mixed there, and taken back by `walk`, given x_t and t.
    Source: Ho et al. 2020, section 4.3.
    """
    middle = max(1, diffusion.steps // 2)
    t, eps = torch.full((len(first),), middle, device=first.device), torch.randn_like(first)
    here, there = (diffusion.diffuse(x0, t, eps) for x0 in (first, second))
    return torch.stack([end_of(walk(torch.lerp(here, there, weight), middle)) for weight in weights.to(first.dtype)])
