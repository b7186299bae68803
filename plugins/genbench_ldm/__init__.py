"""Latent diffusion (Rombach et al. 2022): an autoencoder learns to compress images, then diffusion models its latents.

    z = scale * E(x),   z_T ~ N(0, I) -> z_0 by the reverse process of `genbench_ddpm`,   x = D(z_0 / scale)

The first stage is a variational autoencoder with a small weight on its divergence and a learned discretised logistic.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Literal, Self

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from genbench import Batch, DataSpec, Model, Phase, field, hookimpl
from genbench.capabilities import SumOfTerms
from genbench.distributions import discretized_logistic_log_prob, standard_normal_kl
from genbench.nets import AutoencoderSpec, Decoder, Encoder, latent_size
from genbench_ddpm.diffuser import Diffuser
from genbench_ddpm.guided import GuidedConfig
from genbench_ldm.presets import PRESETS

OF_LATENTS = ("classifier", "diffusion")
"""The phases that learn from latents, whose scale the first of them sets."""


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(LatentDiffusion)


class LDMConfig(GuidedConfig):
    """The settings of `ldm`; the defaults are the preset `small`. Network options are those of the latent U-Net."""

    widths: tuple[PositiveInt, ...] = field(
        (64, 64), "train", "channels of each resolution, finest first", min_length=1
    )
    patch: int = field(1, "train", "side of the squares of latent pixels that are folded into channels", ge=1)

    factor: Literal[1, 2, 4, 8, 16] = field(4, "train", "factor by which the first stage shrinks a side")
    latent_channels: int = field(4, "train", "channels of the latent map", ge=1)
    kl_weight: float = field(0.1, "train", "weight of the first stage's divergence from a normal; 1 is the ELBO", ge=0)
    ae_form: Literal["lean", "kl"] = field(
        "lean", "train", "the first stage's networks: lean, or like the authors' AutoencoderKL, with attention"
    )
    ae_widths: tuple[PositiveInt, ...] = field(
        (32, 64), "train", "the first stage's channels, finest first", min_length=1
    )
    ae_blocks: int = field(1, "train", "the first stage's residual blocks per resolution", ge=1)
    ae_learning_rate: float = field(2e-3, "train", "peak learning rate of the first stage", gt=0)
    ae_share: float = field(0.25, "train", "share of the budget that the first stage takes", gt=0, lt=1)

    @model_validator(mode="after")
    def factor_is_reached(self) -> Self:
        if self.factor % 2 ** (len(self.ae_widths) - 1):
            raise ValueError(f"factor: {self.factor} is too small for the {len(self.ae_widths)} levels of ae_widths")
        return self

    @model_validator(mode="after")
    def shares_leave_something(self) -> Self:
        if self.classifier and self.ae_share + self.classifier_share >= 1:
            told = f"classifier_share: {self.classifier_share:g} and ae_share {self.ae_share:g}"
            raise ValueError(f"{told} leave nothing of the budget to the diffusion")
        return self


class Autoencoder(nn.Module):
    """Images (B, C, H, W) to a Gaussian over latents (B, c, h, w), and latents to a logistic over images.

    In the form `kl` the networks are those of Rombach et al. 2022, appendix G: in the middle, two blocks with attention
    between them; one more block on every level of the decoder; a 1x1 convolution on either side of the latents.
    """

    def __init__(self, shape: tuple[int, int, int], config: LDMConfig) -> None:
        super().__init__()
        channels, *size = shape
        latents, kl = config.latent_channels, config.ae_form == "kl"
        spec = AutoencoderSpec(
            widths=config.ae_widths,
            blocks=config.ae_blocks,
            patch=config.factor // 2 ** (len(config.ae_widths) - 1),
            middle=2 if kl else 1,
            attention=kl,
        )
        self.encoder = Encoder(channels, 2 * latents, spec)
        self.decoder = Decoder(latents, channels, (size[0], size[1]), replace(spec, blocks=spec.blocks + kl))
        self.to_latents = nn.Conv2d(2 * latents, 2 * latents, 1) if kl else nn.Identity()
        self.from_latents = nn.Conv2d(latents, latents, 1) if kl else nn.Identity()
        self.log_scale = nn.Parameter(torch.full((channels, 1, 1), -2.0))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q(z|x), float32."""
        mean, log_std = self.to_latents(self.encoder(images)).float().chunk(2, dim=1)
        return mean, log_std.clamp(-10, 5)

    def decode(self, latents: Tensor) -> Tensor:
        """The mean of p(x|z), float32 images."""
        mean: Tensor = self.decoder(self.from_latents(latents)).float()
        return mean


def draw(mean: Tensor, log_std: Tensor) -> Tensor:
    """A draw from q(z|x)."""
    return mean + log_std.exp() * torch.randn_like(mean)


class LatentDiffusion(SumOfTerms, Model):
    """Diffusion in the latent space of an autoencoder that is trained first, on the same budget."""

    name = "ldm"
    Config = LDMConfig
    config: LDMConfig
    scale: Tensor
    presets = PRESETS
    conditional = True
    discrete = True
    likelihood: ClassVar[Literal["exact", "bound", "estimate"]] = "bound"

    def __init__(self, data: DataSpec, config: LDMConfig) -> None:
        super().__init__(data, config)
        self.latent_shape = (config.latent_channels, *latent_size(data.shape[1:], config.factor))
        self.autoencoder = Autoencoder(data.shape, config)
        self.diffusion = config.process()
        self.net = config.unet(config.latent_channels, config.latent_channels, data.num_classes)
        self.register_buffer("scale", torch.ones(()))
        latents = replace(data, shape=self.latent_shape)
        self.classifier = config.noisy_classifier(latents)
        self.diffuser = Diffuser(
            self.predict, self.diffusion, config, latents, classifier=self.classifier, scale=config.classifier_scale
        )

    @property
    def nfe(self) -> int:
        return self.config.network_calls + 1

    @property
    def likelihood_note(self) -> str:
        return f"one draw of the latents, {self.diffuser.bound_note}"

    def phases(self) -> list[Phase]:
        config = self.config
        first = config.phase("autoencoder", self.autoencoder, config.ae_learning_rate, (0.0, config.ae_share))
        return [
            config.phase("autoencoder", self.autoencoder, config.ae_learning_rate, (0.0, config.ae_share)),
            *config.stages("diffusion", self.net, self.classifier, config.ae_share),
        ]

    def prepare(self, phase: str, batch: Batch) -> None:
        """Scales the latents to unit variance. Source: Rombach et al. 2022, appendix G."""
        if phase in OF_LATENTS and self.scale == 1:
            self.scale.copy_(1 / draw(*self.autoencoder.encode(batch.images)).std())

    def loss(self, phase: str, batch: Batch) -> Tensor | dict[str, Tensor]:
        return self.latent_loss(phase, batch) if phase in OF_LATENTS else self.autoencoder_loss(batch.images)

    def autoencoder_loss(self, images: Tensor) -> dict[str, Tensor]:
        """Nats per image dimension: the loss, and its parts before weighting."""
        posterior = self.autoencoder.encode(images)
        mean = self.autoencoder.decode(draw(*posterior))
        distortion = -discretized_logistic_log_prob(images, mean, self.autoencoder.log_scale).mean()
        rate = standard_normal_kl(*posterior).sum() / images.numel()
        return {"loss": distortion + self.config.kl_weight * rate, "distortion": distortion, "rate": rate}

    def latent_loss(self, phase: str, batch: Batch) -> Tensor | dict[str, Tensor]:
        """The objective of `genbench_ddpm`, or of its classifier, on freshly drawn latents."""
        with torch.no_grad():
            latents = self.scale * draw(*self.autoencoder.encode(batch.images))
        if phase == "classifier":
            return self.diffuser.classifier_loss(latents, batch.labels)
        return self.diffuser.loss(latents, batch.labels)

    def predict(self, z_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """What the U-Net predicts; it sees t on a scale of 0 to 1,000 whatever T is."""
        out: Tensor = self.net(z_t, self.diffusion.per_mille(t), labels)
        return out

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        return self.decode(self.diffuser.sample(n, labels))

    def decode(self, latents: Tensor) -> Tensor:
        """The images (..., C, H, W) of scaled latents (..., c, h, w)."""
        images = self.autoencoder.decode(latents.flatten(0, -4) / self.scale).clamp(-1, 1)
        return images.view(*latents.shape[:-3], *self.data.shape)

    def reconstruct(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the first stage makes of images: the mean of p(x|z) at the mean of q(z|x)."""
        return self.decode(self.mean_latents(images))

    def forward_chain(self, images: Tensor, count: int) -> tuple[Tensor, Tensor]:
        times, latents = self.diffuser.forward_chain(self.mean_latents(images), count)
        return times, self.decode(latents)

    def reverse_chain(self, n: int, count: int, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        times, latents = self.diffuser.reverse_chain(n, count, labels)
        return times, self.decode(latents)

    def interpolate(self, first: Tensor, second: Tensor, weights: Tensor, labels: Tensor | None = None) -> Tensor:
        ends = self.mean_latents(first), self.mean_latents(second)
        return self.decode(self.diffuser.interpolate(*ends, weights, labels))

    def mean_latents(self, images: Tensor) -> Tensor:
        """Scaled means of q(z|x)."""
        return self.scale * self.autoencoder.encode(images)[0]

    def bound_terms(self, images: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """The parts of -log_prob, nats per image (B,), from one draw of the scaled latents u = scale * z, z ~ q(z|x).

        log P(x) >= E_q[log P(x|z) - log q(u|x) + log p(u)]: the reconstruction, minus the entropy of q(u|x), which is
        that of q(z|x) plus the log-determinant of the scale, and the diffusion's bound on the density of u, whose L_0
        is Gaussian. Source: Vahdat et al. 2021, eq. 1.
        """
        mean, log_std = self.autoencoder.encode(images)
        latents = draw(mean, log_std)
        pixels = discretized_logistic_log_prob(images, self.autoencoder.decode(latents), self.autoencoder.log_scale)
        log_std = log_std + self.scale.log()
        entropy = (log_std + 0.5 * math.log(2 * math.pi * math.e)).double().flatten(1).sum(1)
        own = {"reconstruction": -pixels.double().flatten(1).sum(1), "log q(u|x)": -entropy}
        return own | self.diffuser.bound(self.scale * latents, labels)

    def bound_over_time(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The diffusion's L_{t-1}, nats per image (T, B), at about 60 values of t."""
        latents = self.scale * draw(*self.autoencoder.encode(images))
        return self.diffuser.bound_over_time(latents, labels)
