"""What the two networks minimise beside what scores say, and the optimizer that takes a penalty lazily."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from genbench import adamw

Score = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) to scores (B,)."""


def slopes(score: Score, images: Tensor) -> Tensor:
    """The gradient of each image's score with respect to its own pixels, (B, dims), which can be differentiated."""
    images = images.detach().requires_grad_()
    gradient: Tensor = torch.autograd.grad(score(images).sum(), images, create_graph=True)[0]
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32)).flatten(1)


def gradient_penalty(critic: Score, real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (|grad critic| - 1)^2 at random points between real and fake (Gulrajani et al. 2017, equation 3)."""
    share = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device)
    norms: Tensor = torch.linalg.vector_norm(slopes(critic, torch.lerp(fake, real, share)), dim=1)
    return (norms - 1).square().mean()


def r1_penalty(critic: Score, real: Tensor) -> Tensor:
    """Mean of |grad critic|^2 at real images (Mescheder et al. 2018, equation 9, without gamma / 2)."""
    return slopes(critic, real).square().sum(1).mean()


def energy_score(images: Tensor, answers: Tensor, others: Tensor) -> Tensor:
    """Mean of E |X - y| - E |X - X'| / 2, of images y and two answers X and X' to what is shown of each, (B, C, H, W).

    Norms are Euclidean. It is lowest if answers are distributed as the images are. Sources: Gneiting & Raftery 2007,
    equation 21, beta = 1; as the loss of a network, Bouchacourt et al. 2016.
    """
    pairs = ((answers, images), (others, images), (answers, others))
    one, other, apart = (torch.linalg.vector_norm((x - y).flatten(1), dim=1).mean() for x, y in pairs)
    score: Tensor = (one + other - apart) / 2
    return score


class PathLength(nn.Module):
    """The mean of (|J^T y| - a)^2: how far the lengths of paths are from their running mean `a`.

    J is the Jacobian of an image with respect to its w, y is white noise of variance 1 / (H W). Source: Karras et al.
    2020a, equation 4; their weight has 1 / (H W) in it, which is in y here, so that one weight serves all sizes.
    """

    decay = 0.99
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, images: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """The penalty and the mean length, of images (B, C, H, W) that were made of w (B, latent)."""
        noise = torch.randn_like(images) / math.sqrt(images[0, 0].numel())
        (slope,) = torch.autograd.grad((images * noise).sum(), w, create_graph=True)
        lengths: Tensor = torch.linalg.vector_norm(slope.float(), dim=1)
        mean = torch.lerp(lengths.detach().mean(), self.mean, self.decay)
        if self.training:
            self.mean.copy_(mean)
        return (lengths - mean).square().mean(), mean


def lazy_adam(module: nn.Module, rate: float, betas: tuple[float, float], every: int) -> torch.optim.AdamW:
    """Adam over a module's parameters that also takes a penalty's step after each `every` steps; 0 for no penalty.

    It then takes every + 1 steps in the place of `every`, and its rate and memory are reduced accordingly. Source:
    Karras et al. 2020a, appendix B.
    """
    share = every / (every + 1) if every else 1.0
    first, second = betas
    return adamw(module, share * rate, (first**share, second**share))
