"""Denoising diffusion probabilistic models (Ho et al. 2020): learn to take away the noise that a fixed process adds.

    q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I),   p(x_{t-1} | x_t) = N(mu(x_t, t), sigma_t^2 I)

The default is v-prediction (Salimans & Ho 2022) on the cosine schedule (Nichol & Dhariwal 2021), sampled by DDIM's
steps with the posterior's noise.
"""

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from genbench import Batch, DataSpec, Model, Phase, field, hookimpl
from genbench.hookspecs import Calibration
from genbench_ddpm.calibration import gaussian_bounds
from genbench_ddpm.chains import between, forward_chain, reverse_chain
from genbench_ddpm.diffusion import Denoiser, Network
from genbench_ddpm.presets import PRESETS
from genbench_ddpm.samplers import Walk, end_of
from genbench_ddpm.settings import DiffusionConfig


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(DDPM)


@hookimpl
def register_calibrations(register: Callable[[str, Calibration], None]) -> None:
    register("diffusion", gaussian_bounds)


class DDPMConfig(DiffusionConfig):
    """The settings of `ddpm`; the defaults are the preset `small`."""

    fourier: tuple[int, ...] = field(
        (2,), "train", "n of the waves sin and cos(2^n pi x) that show the network small changes of a pixel"
    )


class DDPM(Model):
    """Denoising diffusion in pixel space; its likelihood is the variational bound on that of the 256 levels."""

    name = "ddpm"
    Config = DDPMConfig
    config: DDPMConfig
    presets = PRESETS
    conditional = True
    discrete = True
    likelihood: ClassVar[Literal["exact", "bound", "estimate"]] = "bound"

    def __init__(self, data: DataSpec, config: DDPMConfig) -> None:
        super().__init__(data, config)
        self.diffusion = config.process()
        channels = data.shape[0]
        self.net = config.unet(channels * (1 + 2 * len(config.fourier)), channels, data.num_classes)
        with torch.no_grad():
            self.net.stem.weight[:, channels * config.patch**2 :] = 0  # the waves come in as far as they help

    @property
    def nfe(self) -> int:
        return self.config.network_calls

    def phases(self) -> list[Phase]:
        return [self.config.phase("train", self.net, self.config.learning_rate, warmup=self.config.warmup)]

    def network(self, labels: Tensor | None) -> Network:
        """The U-Net as a function of x_t and t alone; it sees t on a scale of 0 to 1,000 whatever T is."""
        return lambda x_t, t: self.net(self.with_waves(x_t, t), t * (1000 / self.diffusion.steps), labels)

    def with_waves(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The image with its waves as further channels, each as faint as noise of the level of t makes it.

        Sources: Kingma et al. 2021, appendix C; the fading: Barron et al. 2021, equation 14.
        """
        noise, channels = self.diffusion.at(self.diffusion.noise, t, x_t), [x_t]
        for n in self.config.fourier:
            frequency = 2**n * math.pi
            fading = torch.exp(-0.5 * (frequency * noise) ** 2)
            channels += [fading * torch.sin(frequency * x_t), fading * torch.cos(frequency * x_t)]
        return torch.cat(channels, dim=1)

    def loss(self, phase: str, batch: Batch) -> Tensor:
        labels = self.config.kept(batch.labels, self.data.num_classes)
        return self.config.loss(self.diffusion, self.network(labels), batch.images, discrete=True)

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        return end_of(self.walk(self.noise(n), labels))

    def noise(self, n: int) -> Tensor:
        """x_T."""
        return torch.randn(n, *self.data.shape, device=self.diffusion.beta.device)

    def walk(self, noise: Tensor, labels: Tensor | None, start: int | None = None) -> Walk:
        """The sampler's way from noise, x_T or x_start, to images of these labels."""
        network = self.config.guided(self.diffusion, self.network, labels, self.data.num_classes)
        return self.config.walk(self.diffusion, self.diffusion.denoiser(network, clip=True), noise, start)

    def forward_chain(self, images: Tensor, count: int) -> tuple[Tensor, Tensor]:
        return forward_chain(self.diffusion, images, count)

    def reverse_chain(self, n: int, count: int, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return reverse_chain(self.walk(self.noise(n), labels), self.diffusion.steps, count)

    def interpolate(self, first: Tensor, second: Tensor, weights: Tensor, labels: Tensor | None = None) -> Tensor:
        return between(self.diffusion, lambda x, t: self.walk(x, labels, t), first, second, weights)

    @property
    def likelihood_note(self) -> str:
        return f"variational bound over all {self.diffusion.steps} steps"

    def bound_terms(self, images: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """The parts of -log_prob, nats per image (B,): L_T, L_t (the sum over t = 2..T) and L_0."""
        return self.config.bound(self.diffusion, self.denoiser(labels), images, discrete=True)

    def log_prob(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return -torch.stack(list(self.bound_terms(images, labels).values())).sum(0)

    def bound_over_time(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """L_{t-1}, nats per image (T, B), at about 60 values of t."""
        return self.diffusion.bound_over_time(self.denoiser(labels), images, discrete=True)

    def denoiser(self, labels: Tensor | None) -> Denoiser:
        """The network's estimates of the image and of the variance, without guidance."""
        return self.diffusion.denoiser(self.network(labels), clip=True)
