"""VAE: convolutional encoder and decoder, Gaussian posterior, discretised pixels (Kingma & Welling 2014).

The prior is learned too (Chen et al. 2017), so that samples come from where the encoder puts the data.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from genbench import Batch, Condition, DataSpec, Model, Phase, field, hookimpl
from genbench.autoencoder import AutoencoderSpec, Decoder, Encoder
from genbench.condition import Given, beside, hole_of
from genbench.distributions import (
    discretized_gaussian,
    discretized_logistic_log_prob,
    importance_bound,
    logistic_draw,
    normal_draw,
    normal_log_prob,
    standard_normal_kl,
)
from genbench.nets import latent_size
from genbench.optimization import OptimizerConfig
from genbench_vae.prior import Prior

CERTAIN = -9.0
"""The log scale of a pixel that is known: all but 1e-13 of its distribution is within its bin of a level."""
CHUNK = 250
"""How many images' bounds are computed at a time."""


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(VAE)


class VAEConfig(OptimizerConfig):
    """The networks, the latent vector, its prior, the pixels' distribution, the optimizer; the defaults are `small`."""

    batch_size: int = field(32, "train", "images per update", ge=1)
    learning_rate: float = field(4e-3, "train", "peak learning rate of AdamW", gt=0)
    beta: float = field(1.0, "train", "weight of the KL term; 1 is the ELBO (Higgins et al. 2017)", ge=0)
    likelihood: Literal["logistic", "gaussian"] = field(
        "logistic",
        "train",
        "distribution of a pixel, discretised to the 256 levels; its scale is learned per pixel",
    )
    latent: int = field(
        0, "train", "dimensions of the latent vector; 0: one for 48 values of an image, but from 16 to 512", ge=0
    )
    width: int = field(16, "train", "channels at the finest level, doubled at each coarser one", ge=1)
    blocks: int = field(1, "train", "residual blocks per level", ge=1)
    couplings: int = field(
        4, "train", "couplings of the flow that is the prior of z; 0 for a standard normal (Chen et al. 2017)", ge=0
    )
    prior_width: int = field(
        0, "train", "units of the prior's networks; 0: twice the latent dimensions, at least 128", ge=0
    )
    iwae: int = field(64, "sample", "k, the number of draws in the likelihood bound IWAE-k; 1 is the ELBO", ge=1)
    draw: bool = field(False, "sample", "sample from the pixels' distribution instead of taking its mean")

    @model_validator(mode="after")
    def halves_are_coupled(self) -> Self:
        if self.latent == 1 and self.couplings:
            raise ValueError("latent: 1 dimension has no halves that a prior could couple; set couplings = 0")
        return self


def labels_of(given: Given) -> Tensor | None:
    """The labels, which the prior depends on; it does on no other condition, which the decoder is given."""
    return None if isinstance(given, Condition) else given


class VAE(Model):
    """log P(y) >= E_q[log P(y|z)] - KL(q(z|y) || p(z)), with a latent vector z and a prior p(z) that is learned."""

    name = "vae"
    Config = VAEConfig
    config: VAEConfig
    conditional = True
    conditions = ("hole", "image")
    discrete = True
    likelihood = "bound"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"width": 8, "latent": 8, "iwae": 8, "couplings": 0},
        "small": {},
    }

    def __init__(self, data: DataSpec, config: VAEConfig) -> None:
        super().__init__(data, config)
        self.latent = config.latent or min(max(data.dims // 48, 16), 512)
        (channels, height, side), k = data.shape, data.num_classes
        widths = tuple(config.width * 2**level for level in range(_levels(max(height, side))))
        spec = AutoencoderSpec(widths, config.blocks, num_classes=k)
        self.encoder = Encoder(channels + data.shown, widths[-1], spec)
        self.decoder = Decoder(widths[-1], 2 * channels, (height, side), spec)
        self.map_shape = (widths[-1], *latent_size((height, side), spec.factor))
        self.to_latent = nn.Linear(math.prod(self.map_shape), 2 * self.latent)
        self.from_latent = nn.Linear(self.latent, math.prod(self.map_shape))
        self.prior = Prior(self.latent, config.couplings, config.prior_width or max(2 * self.latent, 128), k)

        if data.shown:
            self.shown = Encoder(data.shown, widths[-1], spec)
            self.last = nn.Conv2d(2 * channels + data.shown, 2 * channels, 3, padding=1)

    @property
    def likelihood_note(self) -> str:
        return f"IWAE-{self.config.iwae}"

    def encode(self, images: Tensor, given: Given = None) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation, (B, latent) each, of q(z|y); maps of a condition stand beside the images."""
        maps = self.encoder(*beside(images, given, images.shape[2:]))
        mean, log_std = self.to_latent(maps.flatten(1)).float().chunk(2, dim=1)
        return mean, log_std.clamp(-7, 3)

    def decode(self, z: Tensor, given: Given = None) -> tuple[Tensor, Tensor]:
        """Locations and log scales, (B, C, H, W) each, of the pixels' distributions; what is shown is certain."""
        coarsest = self.from_latent(z).unflatten(1, self.map_shape)
        if isinstance(given, Condition):
            shown = given.maps(self.data.shape[1:])
            maps: Tensor = self.last(torch.cat([self.decoder(coarsest + self.shown(shown)), shown], 1))
        else:
            maps = self.decoder(coarsest, given)
        mean, log_scale = maps.float().chunk(2, dim=1)
        log_scale = (log_scale - 2).clamp(-7, 2)
        if (hole := hole_of(given)) is None:
            return mean, log_scale
        return mean.where(hole, given["image"]), log_scale.masked_fill(~hole, CERTAIN)

    def log_likelihood(self, images: Tensor, z: Tensor, given: Given) -> Tensor:
        """log P(y|z), nats per image (B,)."""
        mean, log_scale = self.decode(z, given)
        if self.config.likelihood == "gaussian":
            log_prob = discretized_gaussian(images, mean, log_scale.exp())
        else:
            log_prob = discretized_logistic_log_prob(images, mean, log_scale)
        return log_prob.flatten(1).sum(1).float()

    def elbo(self, images: Tensor, given: Given = None) -> tuple[Tensor, Tensor]:
        """The two terms, nats per image (B,): log P(y|z) at one draw of z, and KL(q || p); the ELBO is the difference.

        The second is exact under a standard normal prior; otherwise it is log q(z|y) - log p(z) at that draw.
        """
        mean, log_std = self.encode(images, given)
        z = mean + log_std.exp() * torch.randn_like(mean)
        if self.config.couplings:
            rate = normal_log_prob(z, mean, log_std).sum(1) - self.prior.log_prob(z, labels_of(given))
        else:
            rate = standard_normal_kl(mean, log_std).sum(1)
        return self.log_likelihood(images, z, given), rate

    def phases(self) -> list[Phase]:
        return [self.config.phase("train", self, self.config.learning_rate, warmup=self.config.warmup)]

    def loss(self, phase: str, batch: Batch) -> dict[str, Tensor]:
        reconstruction, kl = (term.mean() / self.data.dims for term in self.elbo(batch.images, batch.given))
        return {"loss": self.config.beta * kl - reconstruction, "reconstruction": reconstruction, "kl": kl}

    def log_prob(self, images: Tensor, given: Given = None) -> Tensor:
        """IWAE-k, a lower bound on log P(y) in nats per image (B,) (Burda et al. 2016, equation 8)."""
        starts = range(0, len(images), CHUNK)
        parts = [(images[i : i + CHUNK], None if given is None else given[i : i + CHUNK]) for i in starts]
        return torch.cat([self.bound(*part) for part in parts])

    def elbo_terms(self, images: Tensor, given: Given = None) -> dict[str, Tensor]:
        """The parts of -ELBO, nats per image (B,): -log P(y|z) at one draw of z, and the rate KL(q || p)."""
        reconstruction, rate = self.elbo(images, given)
        return {"reconstruction": -reconstruction, "rate": rate}

    def bound(self, images: Tensor, given: Given) -> Tensor:
        """IWAE-k, nats per image (B,), of images that fit into memory together."""
        mean, log_std = self.encode(images, given)

        def log_weight() -> Tensor:
            z = mean + log_std.exp() * torch.randn_like(mean)
            log_ratio = self.prior.log_prob(z, labels_of(given)) - normal_log_prob(z, mean, log_std).sum(1)
            return self.log_likelihood(images, z, given) + log_ratio

        return importance_bound(log_weight, self.config.iwae)

    def sample(self, n: int, given: Given = None) -> Tensor:
        z = self.prior.draw(torch.randn(n, self.latent, device=self.from_latent.weight.device), labels_of(given))
        mean, log_scale = self.decode(z, given)
        if not self.config.draw:
            return mean.clamp(-1, 1)
        return (normal_draw if self.config.likelihood == "gaussian" else logistic_draw)(mean, log_scale)

    def reconstruct(self, images: Tensor, given: Given = None) -> Tensor:
        """The mean of p(y|z) at the mean of q(z|y)."""
        return self.decode(self.encode(images, given)[0], given)[0].clamp(-1, 1)

    def interpolate(self, first: Tensor, second: Tensor, weights: Tensor, given: Given = None) -> Tensor:
        """The means of p(y|z) on the line between the means of both images' posteriors."""
        here, there = (self.encode(images, given)[0] for images in (first, second))
        return torch.stack([self.decode(torch.lerp(here, there, weight), given)[0].clamp(-1, 1) for weight in weights])


def _levels(side: int, patch: int = 2, base: int = 8) -> int:
    """Number of resolutions: after the patch, sides are halved until none exceeds `base`."""
    return 1 + max(0, math.ceil(math.log2(side / patch / base)))
