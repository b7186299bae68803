"""The first stage of latent diffusion: images to latents and back, and its training (Rombach et al. 2022, 3.1)."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Literal, Self

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from genbench import Phase, field
from genbench.autoencoder import AutoencoderSpec, Decoder, Encoder
from genbench.distributions import discretized_logistic_log_prob, standard_normal_kl
from genbench.optimization import OptimizerConfig

Shape = tuple[int, int, int]
Span = tuple[float, float]
AT_ONCE = 32
"""Images that are encoded together before a phase begins, when no size of a batch bounds the memory."""


class FirstStageConfig(OptimizerConfig):
    """The settings that every first stage has; those named `ae_` are of its networks."""

    factor: Literal[1, 2, 4, 8, 16] = field(4, "train", "factor by which the first stage shrinks a side")
    latent_channels: int = field(4, "train", "channels of the latent map", ge=1)
    ae_form: Literal["lean", "kl"] = field(
        "lean", "train", "the first stage's networks: lean, or like the authors' AutoencoderKL, with attention"
    )
    ae_attention: bool = field(
        False, "train", "attention behind every block of the first stage's coarsest level, as in its published f = 8"
    )
    ae_widths: tuple[PositiveInt, ...] = field(
        (32, 64), "train", "the first stage's channels, finest first", min_length=1
    )
    ae_blocks: int = field(1, "train", "the first stage's residual blocks per resolution", ge=1)

    @model_validator(mode="after")
    def factor_is_reached(self) -> Self:
        if self.factor % 2 ** (len(self.ae_widths) - 1):
            raise ValueError(f"factor: {self.factor} is too small for the {len(self.ae_widths)} levels of ae_widths")
        return self

    @property
    def encoder_spec(self) -> AutoencoderSpec:
        """The encoder that these settings describe."""
        kl = self.ae_form == "kl"
        return AutoencoderSpec(
            widths=self.ae_widths,
            blocks=self.ae_blocks,
            patch=self.factor // 2 ** (len(self.ae_widths) - 1),
            middle=2 if kl else 1,
            attention=kl,
            coarsest_attention=self.ae_attention,
        )


class KLConfig(FirstStageConfig):
    """The settings of the first stage that is a variational autoencoder."""

    kl_weight: float = field(0.1, "train", "weight of the first stage's divergence from a normal; 1 is the ELBO", ge=0)


class FirstStage(ABC):
    """Images (B, C, H, W) to latents (B, c, h, w) and back; its phases and losses are a part of its model's."""

    @property
    def eager(self) -> tuple[nn.Module, ...]:
        """See `Model.eager`."""
        return ()

    @property
    def external_data(self) -> tuple[str, ...]:
        """See `Model.external_data`."""
        return ()

    @property
    def seen_extractors(self) -> tuple[str, ...]:
        """See `Model.seen_extractors`."""
        return ()

    @abstractmethod
    def phases(self, rate: float, span: Span) -> list[Phase]:
        """The phases that train it over a span of the budget, at this peak learning rate."""

    @abstractmethod
    def prepare(self, phase: str, images: Tensor) -> None:
        """See `Model.prepare`."""

    @abstractmethod
    def loss(self, phase: str, images: Tensor) -> dict[str, Tensor]:
        """See `Model.loss`."""

    @abstractmethod
    def draw(self, images: Tensor) -> Tensor:
        """Latents as another model is to learn them, float32."""

    @abstractmethod
    def mean(self, images: Tensor) -> Tensor:
        """The latents that stand for images best, float32."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Float32 images, which may exceed [-1, 1]."""


class Coder(nn.Module):
    """An encoder that writes `outputs` maps of the latents' channels, and the decoder that mirrors it.

    In the form `kl` they are those of Rombach et al. 2022, appendix G: in the middle, two blocks with attention
    between them; one more block on every level of the decoder; a 1x1 convolution on either side of the latents.
    """

    def __init__(self, shape: Shape, config: FirstStageConfig, outputs: int) -> None:
        super().__init__()
        channels, *size = shape
        latents, kl, spec = config.latent_channels, config.ae_form == "kl", config.encoder_spec
        self.encoder = Encoder(channels, outputs * latents, spec)
        self.decoder = Decoder(latents, channels, (size[0], size[1]), replace(spec, blocks=spec.blocks + kl))
        self.to_latents = nn.Conv2d(outputs * latents, outputs * latents, 1) if kl else nn.Identity()
        self.from_latents = nn.Conv2d(latents, latents, 1) if kl else nn.Identity()

    def encoded(self, images: Tensor) -> Tensor:
        """What the encoder makes of images, float32."""
        maps: Tensor = self.to_latents(self.encoder(images))
        return maps.float()

    def decoded(self, latents: Tensor) -> Tensor:
        """What the decoder makes of latents, float32."""
        images: Tensor = self.decoder(self.from_latents(latents))
        return images.float()


def draw(mean: Tensor, log_std: Tensor) -> Tensor:
    """A draw from q(z|x)."""
    return mean + log_std.exp() * torch.randn_like(mean)


class Autoencoder(Coder, FirstStage):
    """Images (B, C, H, W) to a Gaussian over latents (B, c, h, w), and latents to a logistic over images."""

    def __init__(self, shape: Shape, config: KLConfig) -> None:
        super().__init__(shape, config, outputs=2)
        self.config = config
        self.log_scale = nn.Parameter(torch.full((shape[0], 1, 1), -2.0))

    def phases(self, rate: float, span: Span) -> list[Phase]:
        return [self.config.phase("autoencoder", self, rate, span)]

    def prepare(self, phase: str, images: Tensor) -> None:
        """Nothing depends on data."""

    def loss(self, phase: str, images: Tensor) -> dict[str, Tensor]:
        """Nats per image dimension: the loss, and its parts before weighting."""
        posterior = self.encode(images)
        mean = self.decode(draw(*posterior))
        distortion = -discretized_logistic_log_prob(images, mean, self.log_scale).mean()
        rate = standard_normal_kl(*posterior).sum() / images.numel()
        return {"loss": distortion + self.config.kl_weight * rate, "distortion": distortion, "rate": rate}

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q(z|x), float32."""
        mean, log_std = self.encoded(images).chunk(2, dim=1)
        return mean, log_std.clamp(-10, 5)

    def draw(self, images: Tensor) -> Tensor:
        return draw(*self.encode(images))

    def mean(self, images: Tensor) -> Tensor:
        return self.encode(images)[0]

    def decode(self, latents: Tensor) -> Tensor:
        """The mean of p(x|z), float32 images."""
        return self.decoded(latents)
