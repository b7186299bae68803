"""Denoising diffusion probabilistic models (Ho et al. 2020): learn to take away the noise that a fixed process adds.

    q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I),   p(x_{t-1} | x_t) = N(mu(x_t, t), sigma_t^2 I)

The default is v-prediction (Salimans & Ho 2022) on the cosine schedule (Nichol & Dhariwal 2021), sampled by DDIM.
"""

import math
from collections.abc import Callable
from typing import ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor

from genbench import Batch, Config, DataSpec, Model, Phase, adamw, field, hookimpl, warmup_cosine
from genbench.nets import UNet
from genbench_ddpm.diffusion import Denoiser, Diffusion, Network, Prediction, Variance, cosine_betas, linear_betas
from genbench_ddpm.samplers import ancestral, ddim


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(DDPM)


class DiffusionConfig(Config):
    """The settings of the process, the network and the sampler."""

    batch_size: int = field(64, "train", "images per update", ge=1)
    learning_rate: float = field(2e-3, "train", "peak learning rate", gt=0)

    timesteps: int = field(1000, "train", "T, the number of noise levels", ge=2)
    schedule: Literal["linear", "cosine"] = field("cosine", "train", "how beta_t grows")
    beta_start: float = field(1e-4, "train", "beta_1 of the linear schedule", gt=0, lt=1)
    beta_end: float = field(0.02, "train", "beta_T of the linear schedule", gt=0, lt=1)
    prediction: Prediction = field("v", "train", "what the network predicts: noise, data, v or the posterior mean")
    objective: Literal["simple", "variational"] = field("simple", "train", "L_simple, or the variational bound")
    variance: Variance = field("beta", "train", "sigma_t^2 of the reverse process: beta_t, or the posterior's")

    widths: tuple[int, ...] = field((32, 64), "train", "channels of each resolution, finest first", min_length=1)
    blocks: int = field(1, "train", "residual blocks of each resolution", ge=1)
    attention: tuple[int, ...] = field((), "train", "resolutions with self-attention, 0 is the finest")
    heads: int = field(1, "train", "heads of the self-attention", ge=1)
    patch: int = field(2, "train", "side of the squares of pixels that are folded into channels", ge=1)
    dropout: float = field(0.0, "train", "dropout in the residual blocks", ge=0, lt=1)
    scale_shift: bool = field(True, "train", "time scales and shifts the features; else it is added, as in the paper")

    sampler: Literal["ddim", "ancestral"] = field("ddim", "sample", "how samples are drawn")
    steps: int = field(50, "sample", "network calls of the DDIM sampler", ge=1)
    eta: float = field(
        0.0, "sample", "noise of the DDIM sampler, 0 for none, 1 for the posterior's variance", ge=0, le=1
    )

    bound_exact: int = field(4, "sample", "terms of the bound, from t = 1 up, that are summed exactly", ge=1)
    bound_strata: int = field(
        12, "sample", "ranges of t that estimate the other terms, by one t each; 0 sums every t", ge=0
    )

    @model_validator(mode="after")
    def consistent(self) -> Self:
        if self.sampler == "ddim" and self.steps > self.timesteps:
            raise ValueError(f"steps: {self.steps} is more than the {self.timesteps} timesteps")
        if any(level not in range(len(self.widths)) for level in self.attention):
            raise ValueError(
                f"attention: {list(self.attention)} names a resolution that is not in 0..{len(self.widths) - 1}"
            )
        if any(width % self.heads for width in self.widths):
            raise ValueError(f"heads: {self.heads} does not divide every one of the widths {list(self.widths)}")
        return self

    def process(self) -> Diffusion:
        """The diffusion process that these settings describe."""
        linear = self.schedule == "linear"
        betas = linear_betas(self.timesteps, self.beta_start, self.beta_end) if linear else cosine_betas(self.timesteps)
        return Diffusion(betas, self.prediction, self.variance)

    def unet(self, inputs: int, outputs: int, num_classes: int) -> UNet:
        """The network that these settings describe, from and to so many channels."""
        return UNet(
            inputs,
            outputs,
            self.widths,
            self.blocks,
            self.attention,
            heads=self.heads,
            patch=self.patch,
            num_classes=num_classes,
            dropout=self.dropout,
            scale_shift=self.scale_shift,
        )

    @property
    def network_calls(self) -> int:
        """What one sample costs."""
        return self.timesteps if self.sampler == "ancestral" else self.steps

    def loss(self, diffusion: Diffusion, network: Network, x0: Tensor, discrete: bool) -> Tensor:
        """The chosen objective; `discrete` where x0 holds bin centres."""
        if self.objective == "simple":
            return diffusion.simple_loss(network, x0)
        return diffusion.variational_loss(network, x0, discrete)

    def bound(self, diffusion: Diffusion, denoise: Denoiser, x0: Tensor, discrete: bool) -> dict[str, Tensor]:
        """The parts of the bound on -log p(x0), nats (B,): L_T, L_t (the sum over t = 2..T) and L_0."""
        return diffusion.bound(denoise, x0, self.bound_exact, self.bound_strata, discrete)

    def draw(self, diffusion: Diffusion, denoise: Denoiser, noise: Tensor) -> Tensor:
        """Samples from noise by the chosen sampler."""
        if self.sampler == "ancestral":
            return ancestral(diffusion, denoise, noise)
        return ddim(diffusion, denoise, noise, self.steps, self.eta)


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
    presets = {
        "tiny": {"widths": [8, 16], "timesteps": 50, "steps": 10, "batch_size": 32, "learning_rate": 1e-2},
        "small": {},
        "paper": {
            "batch_size": 128,
            "learning_rate": 2e-4,
            "ema_decay": 0.9999,
            "schedule": "linear",
            "prediction": "eps",
            "widths": [128, 256, 256, 256],
            "blocks": 2,
            "attention": [1],
            "patch": 1,
            "fourier": [],
            "dropout": 0.1,
            "scale_shift": False,
            "sampler": "ancestral",
        },
    }
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
        optimizer = adamw(self.net, self.config.learning_rate)
        return [Phase("train", self.net, optimizer, schedule=warmup_cosine, clip=1.0)]

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
        return self.config.loss(self.diffusion, self.network(batch.labels), batch.images, discrete=True)

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        noise = torch.randn(n, *self.data.shape, device=self.diffusion.beta.device)
        return self.config.draw(self.diffusion, self.denoiser(labels), noise)

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
        """The network's estimate of the image."""
        return self.diffusion.denoiser(self.network(labels), clip=True)
