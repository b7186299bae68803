"""Latent diffusion (Rombach et al. 2022): an autoencoder learns to compress images, then diffusion models its latents.

    z = scale * E(x),   z_T ~ N(0, I) -> z_0 by the reverse process of `genbench_ddpm`,   x = D(z_0 / scale)

The first stage is a variational autoencoder with a small weight on its divergence and a learned discretised logistic,
or an autoencoder with a codebook, through which there is no bound on the likelihood.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Literal, Self, cast

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from genbench import Batch, DataSpec, Model, Phase, field, hookimpl
from genbench.capabilities import SumOfTerms, without
from genbench.condition import Given, beside
from genbench.distributions import discretized_logistic_log_prob
from genbench.nets import latent_size
from genbench_ddpm.diffuser import Diffuser
from genbench_ddpm.guided import GuidedConfig
from genbench_ddpm.samplers import steps_of
from genbench_ldm.first_stage import AT_ONCE, Autoencoder, FirstStage, KLConfig, draw
from genbench_ldm.presets import PRESETS
from genbench_ldm.quantised import OPTIONS, CodebookConfig, QuantisedStage

OF_LATENTS = ("classifier", "diffusion")
"""The phases that learn from latents, whose scale the first of them sets."""


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(LatentDiffusion)


class LDMConfig(GuidedConfig, KLConfig, CodebookConfig):
    """The settings of `ldm`; the defaults are the preset `small`. Network options are those of the latent U-Net."""

    widths: tuple[PositiveInt, ...] = field(
        (64, 64), "train", "channels of each resolution, finest first", min_length=1
    )
    steps: int = steps_of(14)
    patch: int = field(1, "train", "side of the squares of latent pixels that are folded into channels", ge=1)

    first_stage: Literal["kl", "vq"] = field(
        "kl", "train", "a variational autoencoder, or one with a codebook, which leaves no bound on the likelihood"
    )
    ae_learning_rate: float = field(2e-3, "train", "peak learning rate of the first stage", gt=0)
    ae_batch_size: int = field(
        0, "train", "images per update of the first stage; 0: as later, with a codebook a quarter of that", ge=0
    )
    ae_share: float = field(0.25, "train", "share of the budget that the first stage takes", gt=0, lt=1)

    def unused(self, name: str) -> str:
        if self.first_stage == "kl" and name in OPTIONS:
            return "first_stage = kl"
        if self.first_stage == "vq" and name in ("kl_weight", "bound_exact", "bound_strata"):
            return "first_stage = vq"
        return super().unused(name)

    def first_batch(self, shape: tuple[int, int, int]) -> int:
        """Images per update of the first stage: a codebook needs updates more than it needs images."""
        return self.ae_batch_size or max(1, self.images_per_update(shape) // {"kl": 1, "vq": 4}[self.first_stage])

    @model_validator(mode="after")
    def shares_leave_something(self) -> Self:
        if self.classifier and self.ae_share + self.classifier_share >= 1:
            told = f"classifier_share: {self.classifier_share:g} and ae_share {self.ae_share:g}"
            raise ValueError(f"{told} leave nothing of the budget to the diffusion")
        return self

    def check(self, data: DataSpec) -> None:
        super().check(data)
        if self.first_stage == "vq":
            CodebookConfig.check(self, data)


class LatentDiffusion(SumOfTerms, Model):
    """Diffusion in the latent space of an autoencoder that is trained first, on the same budget."""

    name = "ldm"
    Config = LDMConfig
    config: LDMConfig
    scale: Tensor
    presets = PRESETS
    conditional = True
    conditions = ("text", "map", "hole", "image", "vector")
    discrete = True
    likelihood: ClassVar[Literal["exact", "bound", "estimate"]] = "bound"

    def __init__(self, data: DataSpec, config: LDMConfig) -> None:
        super().__init__(data, config)
        self.latent_shape = (config.latent_channels, *latent_size(data.shape[1:], config.factor))
        self.autoencoder: FirstStage = (
            Autoencoder(data.shape, config) if config.first_stage == "kl" else QuantisedStage(data.shape, config)
        )
        self.diffusion = config.process(data.kind)
        outputs = config.outputs(config.latent_channels)
        self.net = config.unet(config.latent_channels, outputs, data, factor=config.factor)
        self.register_buffer("scale", torch.ones(()))
        latents = replace(data, shape=self.latent_shape)
        self.classifier = config.noisy_classifier(latents)
        self.diffuser = Diffuser(self.predict, self.diffusion, config, latents, classifier=self.classifier)
        if config.first_stage == "vq":
            without(self, "log_prob", "bound_terms", "bound_over_time")

    @property
    def nfe(self) -> int:
        return self.config.network_calls + 1

    @property
    def eager(self) -> tuple[nn.Module, ...]:
        return self.autoencoder.eager

    @property
    def external_data(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.autoencoder.external_data

    @property
    def seen_extractors(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.autoencoder.seen_extractors

    @property
    def likelihood_note(self) -> str:
        return f"one draw of the latents, {self.diffuser.bound_note}"

    def phases(self) -> list[Phase]:
        config = self.config
        first = self.autoencoder.phases(config.ae_learning_rate, (0.0, config.ae_share))
        return [
            *(replace(phase, part="first stage", batch_size=config.first_batch(self.data.shape)) for phase in first),
            *config.stages("diffusion", self.net, self.classifier, config.ae_share),
        ]

    def prepare(self, phase: str, batch: Batch) -> None:
        """Scales the latents to unit variance. Source: Rombach et al. 2022, appendix G."""
        if phase not in OF_LATENTS:
            self.autoencoder.prepare(phase, batch.images)
        elif phase == ("diffusion" if self.classifier is None else "classifier"):
            drawn = [self.autoencoder.draw(part) for part in torch.split(batch.images, AT_ONCE)]
            self.scale.copy_(1 / torch.cat(drawn).std())

    def loss(self, phase: str, batch: Batch) -> Tensor | dict[str, Tensor]:
        return self.latent_loss(phase, batch) if phase in OF_LATENTS else self.autoencoder.loss(phase, batch.images)

    def latent_loss(self, phase: str, batch: Batch) -> Tensor | dict[str, Tensor]:
        """The objective of `genbench_ddpm`, or of its classifier, on freshly drawn latents."""
        with torch.no_grad():
            latents = self.scale * self.autoencoder.draw(batch.images)
        if phase == "classifier":
            return self.diffuser.classifier_loss(latents, batch.labels)
        return self.diffuser.loss(latents, batch.given)

    def predict(self, z_t: Tensor, t: Tensor, given: Given) -> Tensor:
        """What the U-Net predicts; it sees t on a scale of 0 to 1,000 whatever T is."""
        seen, told = beside(z_t, given, self.data.shape[1:], self.config.factor)
        out: Tensor = self.net(seen, self.diffusion.per_mille(t), told)
        return out

    def sample(self, n: int, given: Given = None) -> Tensor:
        return self.decode(self.diffuser.sample(n, given))

    def decode(self, latents: Tensor) -> Tensor:
        """The images (..., C, H, W) of scaled latents (..., c, h, w)."""
        images = self.autoencoder.decode(latents.flatten(0, -4) / self.scale).clamp(-1, 1)
        return images.view(*latents.shape[:-3], *self.data.shape)

    def reconstruct(self, images: Tensor, given: Given = None) -> Tensor:
        """What the first stage makes of images, at the mean of q(z|x) if that is a distribution."""
        return self.decode(self.mean_latents(images))

    def forward_chain(self, images: Tensor, count: int) -> tuple[Tensor, Tensor]:
        times, latents = self.diffuser.forward_chain(self.mean_latents(images), count)
        return times, self.decode(latents)

    def reverse_chain(self, n: int, count: int, given: Given = None) -> tuple[Tensor, Tensor]:
        times, latents = self.diffuser.reverse_chain(n, count, given)
        return times, self.decode(latents)

    def interpolate(self, first: Tensor, second: Tensor, weights: Tensor, given: Given = None) -> Tensor:
        ends = self.mean_latents(first), self.mean_latents(second)
        return self.decode(self.diffuser.interpolate(*ends, weights, given))

    def mean_latents(self, images: Tensor) -> Tensor:
        """Scaled latents that stand for images best: means of q(z|x), where that is a distribution."""
        return self.scale * self.autoencoder.mean(images)

    @property
    def posterior(self) -> Autoencoder:
        """The first stage, where it has a distribution over latents given images."""
        return cast(Autoencoder, self.autoencoder)

    def bound_terms(self, images: Tensor, given: Given = None) -> dict[str, Tensor]:
        """The parts of -log_prob, nats per image (B,), from one draw of the scaled latents u = scale * z, z ~ q(z|x).

        log P(x) >= E_q[log P(x|z) - log q(u|x) + log p(u)]: the reconstruction, minus the entropy of q(u|x), which is
        that of q(z|x) plus the log-determinant of the scale, and the diffusion's bound on the density of u, whose L_0
        is Gaussian. Source: Vahdat et al. 2021, eq. 1.
        """
        mean, log_std = self.posterior.encode(images)
        latents = draw(mean, log_std)
        pixels = discretized_logistic_log_prob(images, self.posterior.decode(latents), self.posterior.log_scale)
        log_std = log_std + self.scale.log()
        entropy = (log_std + 0.5 * math.log(2 * math.pi * math.e)).double().flatten(1).sum(1)
        own = {"reconstruction": -pixels.double().flatten(1).sum(1), "log q(u|x)": -entropy}
        return own | self.diffuser.bound(self.scale * latents, given)

    def bound_over_time(self, images: Tensor, given: Given = None) -> tuple[Tensor, Tensor]:
        """The diffusion's L_{t-1}, nats per image (T, B), at about 60 values of t."""
        latents = self.scale * draw(*self.posterior.encode(images))
        return self.diffuser.bound_over_time(latents, given)
