"""Holes filled by a model that was not trained to: RePaint (Lugmayr et al. 2022).

    x_{t-1} = m * x_{t-1}^unknown + (1 - m) * x_{t-1}^known,   x_{t-1}^known ~ q(x_{t-1} | x_0)

What is known is noised and pasted after every step; to bring what was filled in into line with it, each step is taken
several times, with the forward process going back in between.
"""

import torch
from torch import Tensor

from genbench import Condition
from genbench.walks import Walk
from genbench_ddpm.diffusion import Denoiser, Diffusion
from genbench_ddpm.grids import GridName
from genbench_ddpm.samplers import estimator, jump, stepwise


def repaint(
    diffusion: Diffusion,
    denoise: Denoiser,
    noise: Tensor,
    given: Condition,
    steps: int,
    grid: GridName,
    repeats: int,
    start: int | None = None,
) -> Walk:
    """From `noise`, x_T or x_start, to images that are `given` outside of its holes, in so many steps and repeats.

    Source: Lugmayr et al. 2022, algorithm 1, with the jumps of DDIM at eta = 1 in the place of single steps.
    """
    estimate, image, hole = estimator(denoise), given["image"], given["hole"]

    def step(x: Tensor, now: int, then: int) -> Tensor:
        for again in reversed(range(repeats if then else 1)):
            filled = jump(diffusion, x, estimate(x, now), now, then, eta=1.0)
            pasted = filled.where(hole, noised(diffusion, image, then))
            x = pasted if not again else renoised(diffusion, pasted, then, now)
        return pasted

    return stepwise(diffusion, noise, steps, start, grid, step)


def noised(diffusion: Diffusion, x0: Tensor, time: int) -> Tensor:
    """x_t ~ q(x_t | x_0), for one time of all images."""
    return diffusion.diffuse(x0, torch.full((len(x0),), time, device=x0.device), torch.randn_like(x0))


def renoised(diffusion: Diffusion, x: Tensor, then: int, now: int) -> Tensor:
    """x_now ~ q(x_now | x_then), back along the forward process. Source: Ho et al. 2020, eq. 4, for a longer step."""
    kept = diffusion.alpha_bar[now] / diffusion.alpha_bar[then]
    return kept.sqrt().to(x.dtype) * x + (1 - kept).sqrt().to(x.dtype) * torch.randn_like(x)


def calls_of(steps: int, repeats: int) -> int:
    """Network calls of one sample."""
    return (steps - 1) * repeats + 1
