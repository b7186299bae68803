"""Samples led towards their class by the gradient of a classifier that knows noise (Dhariwal & Nichol 2021, section 4).

    ancestral steps: mu + Sigma g,   DDIM: eps - sqrt(1 - alpha_bar_t) g,   g = s grad log p(y | x_t)

The first form is in the samplers that take steps of that kind; the second suits any other.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from genbench.langevin import gradient
from genbench_ddpm.diffusion import Denoiser, Diffusion, Estimate

Classify = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t) -> the logits of the classes, (B, classes)."""
Guide = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t) -> g, of the shape of x_t."""
BLIND = 1e-3
"""Signal over noise below which x_t says less than a millionth of a nat of each dimension of x_0, and nothing of y."""


def class_guide(classify: Classify, labels: Tensor, scale: float) -> Guide:
    """g towards labels (B,), with s = `scale`."""

    def guide(x_t: Tensor, t: Tensor) -> Tensor:
        return scale * gradient(lambda x: -F.cross_entropy(classify(x, t), labels, reduction="none"), x_t)

    return guide


def steered(diffusion: Diffusion, denoise: Denoiser, guide: Guide, clip: bool = False) -> Denoiser:
    """The denoiser whose noise is eps - sqrt(1 - alpha_bar_t) g, so that it estimates x_0 given y too.

    Its x_0 is the other's plus (1 - alpha_bar_t) / sqrt(alpha_bar_t) g; `clip` keeps it in [-1, 1], for images. Where
    x_t is `BLIND` there is no g: that of an exact classifier vanishes with the signal, that of a learned one does not.
    Source: Dhariwal & Nichol 2021, algorithm 2.
    """

    def denoise_towards(x_t: Tensor, t: Tensor) -> Estimate:
        estimate = denoise(x_t, t)
        signal, noise = diffusion.at(diffusion.signal, t, x_t), diffusion.at(diffusion.noise, t, x_t)
        lever = torch.where(signal > BLIND * noise, noise**2 / signal, 0.0)
        x0 = estimate.x0 + lever * guide(x_t, t)
        return estimate._replace(x0=x0.clamp(-1, 1) if clip else x0)

    return denoise_towards
