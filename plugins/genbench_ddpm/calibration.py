"""The arithmetic of the diffusion bound against a closed form, for `genbench calibrate`."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from genbench_ddpm.diffusion import Diffusion, linear_betas


def gaussian_bounds() -> Iterator[tuple[str, float, float, float]]:
    """The bound of x_0 ~ N(0, 1) with the best predictor is its entropy, for sigma_t^2 = beta_t, at any schedule."""
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    betas, drawn = linear_betas(10, 0.01, 0.5), torch.randn(40_000, 10, dtype=torch.float64)
    for variance, excess in (("beta", 0.0), ("posterior", 2.6569)):
        process = Diffusion(betas, "eps", "beta" if variance == "beta" else "posterior")

        def perfect(x: Tensor, t: Tensor, process: Diffusion = process) -> Tensor:
            return process.at(process.noise, t, x) * x

        terms = process.bound(process.denoiser(perfect), drawn, strata=0, discrete=False)
        nats = torch.stack(list(terms.values())).sum(0) / drawn.shape[1]
        error = max(3 * float(nats.std()) / math.sqrt(len(nats)), 5e-4)
        name = f"diffusion's bound of a Gaussian, nats, variance {variance}"
        yield name, float(nats.mean()), entropy + excess, error
