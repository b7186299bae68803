"""Latents of a finished GAN: from the prior, or moved towards the images by what the critic knows (Che et al. 2020)."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from genbench import Config, field
from genbench.langevin import gradient, langevin
from genbench.walks import last, reported

LANGEVIN = {"sampler": ["latent_langevin"]}


class SamplingOptions(Config):
    """How images are drawn from a finished training."""

    sampler: Literal["prior", "latent_langevin"] = field(
        "prior", "sample", "latents from the prior, or moved by Langevin dynamics that the critic drives (DDLS)"
    )
    truncation: float = field(
        0.0,
        "sample",
        "latents beyond plus or minus this are drawn again; 0 for the whole prior",
        ge=0,
        only_with={"sampler": ["prior"]},
    )
    steps: int = field(20, "sample", "Langevin steps", ge=1, only_with=LANGEVIN)
    step_size: float = field(
        0.05, "sample", "of a Langevin step: what is lost of the latent it starts from", gt=0, le=1, only_with=LANGEVIN
    )
    temperature: float = field(
        1.0,
        "sample",
        "of the Langevin dynamics: 1 for the density itself, less for its modes",
        ge=0,
        only_with=LANGEVIN,
    )


def truncated_normal(n: int, dims: int, threshold: float, device: torch.device) -> Tensor:
    """Standard normal numbers (n, dims), all within plus or minus `threshold`: as if those beyond were drawn again.

    Source: the truncation trick, Brock et al. 2019, section 3.1.
    """
    ranks = math.erf(threshold / math.sqrt(2)) * (2 * torch.rand(n, dims, device=device) - 1)
    return (math.sqrt(2) * ranks.erfinv()).clamp(-threshold, threshold)


def calibration(real: Tensor, fake: Tensor) -> Tensor:
    """Scale and offset, (2,), by which scores (B,) of real and of generated images become log p_real / p_fake.

    A logistic regression, with the targets of Platt 1999, which keep it finite for scores that never overlap.
    """
    real, fake = real.double().cpu(), fake.double().cpu()
    scores = torch.cat([real, fake])
    targets = torch.cat([torch.full_like(real, 1 - 1 / (len(real) + 2)), torch.full_like(fake, 1 / (len(fake) + 2))])
    mean, deviation = scores.mean(), scores.std() + 1e-12
    fitted = torch.zeros(2, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([fitted], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = fitted[0] * (scores - mean) / deviation + fitted[1]
        found = F.binary_cross_entropy_with_logits(logits, targets)
        found.backward()  # type: ignore[no-untyped-call]
        return found

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    scale, offset = fitted.detach()
    return torch.stack([scale / deviation, offset - scale * mean / deviation])


def latent_langevin(
    start: Tensor, log_ratio: Callable[[Tensor], Tensor], config: SamplingOptions, report: Callable[[float], None]
) -> Tensor:
    """Latents (B, latent) after Langevin dynamics in the density N(z; 0, I) p_real / p_fake of the images they give.

    `log_ratio` maps latents to the logarithm of that ratio, (B,). Source: Che et al. 2020, algorithm 1, with
    step_size = epsilon / 2. Their noise has variance 2 step_size; here it is smaller by the factor 1 - step_size / 2,
    which leaves the prior unchanged, whatever the step, where the ratio is constant.
    """
    noise = math.sqrt(config.temperature * config.step_size * (2 - config.step_size))

    def drift(z: Tensor) -> Tensor:
        return gradient(log_ratio, z) - z

    return last(reported(langevin(start, drift, config.steps, config.step_size, noise), config.steps, report))
