"""Langevin dynamics, which draws from a density by the gradient of its logarithm alone (Welling & Teh 2011)."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Drift = Callable[[Tensor], Tensor]
"""x -> a vector field of x's shape, such as the gradient of a log density."""
EVALUATIONS_OF_A_GRADIENT = 2
"""What `gradient` costs, in evaluations of the function's network: one forward, and one back to x."""


def gradient(function: Callable[[Tensor], Tensor], x: Tensor, reduced: bool = False) -> Tensor:
    """The gradient of each of the values (B,) of `function` with respect to its own row of x (B, ...), detached.

    It works in `Model.sample` too, which runs without gradients, and is computed outside autocast, unless it may be
    `reduced`: a bfloat16 gradient has too few digits to be followed for many small steps. A `function` whose rows
    interact, as under batch normalisation in training mode, has no such gradient.
    """
    device = x.device.type
    with (
        torch.enable_grad(),
        torch.autocast(device, torch.bfloat16, enabled=reduced and torch.is_autocast_enabled(device)),
    ):
        x = x.detach().requires_grad_()
        found: Tensor = torch.autograd.grad(function(x).sum(), x)[0]
    return found


def langevin(
    x: Tensor, drift: Drift, steps: int, step: float, noise: float, limit: float = math.inf
) -> Iterator[Tensor]:
    """x (B, ...) after each of `steps` updates x <- x + step * drift(x) + noise * N(0, I), held in [-limit, limit].

    With the gradient of log p as drift, noise = sqrt(2 * step) and no limit the stationary density tends to p for small
    steps. Short runs of image models usually take less noise than that, which draws from p at a lower temperature.
    """
    for _ in range(steps):
        x = (x + step * drift(x) + noise * torch.randn_like(x)).clamp(-limit, limit)
        yield x
