"""GAN: a generator against a critic; plain or residual (Miyato et al. 2018), BigGAN's networks, or StyleGAN2's."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from genbench import Batch, DataSpec, Model, Phase, hookimpl, warmup_constant, warmup_linear
from genbench.adversarial import critic_loss, generator_loss
from genbench.condition import Given
from genbench.langevin import EVALUATIONS_OF_A_GRADIENT
from genbench_gan.augment import AdaptiveAugmentation
from genbench_gan.hierarchy import HierarchicalCritic, HierarchicalGenerator
from genbench_gan.latent_langevin import calibration, latent_langevin, truncated_normal
from genbench_gan.networks import ConvCritic, ConvGenerator, pasted
from genbench_gan.orthogonal import initialise, orthogonal_penalty
from genbench_gan.penalties import PathLength, energy_score, gradient_penalty, lazy_adam, r1_penalty
from genbench_gan.presets import PRESETS
from genbench_gan.residual import ResidualCritic, ResidualGenerator
from genbench_gan.settings import GANConfig
from genbench_gan.standing import standing_statistics
from genbench_gan.style import StyleCritic, StyleGenerator


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(GAN)


NETWORKS: Mapping[str, tuple[Any, Any]] = {
    "conv": (ConvGenerator, ConvCritic),
    "residual": (ResidualGenerator, ResidualCritic),
    "biggan": (HierarchicalGenerator, HierarchicalCritic),
    "biggan_deep": (HierarchicalGenerator, HierarchicalCritic),
    "style": (StyleGenerator, StyleCritic),
}


def some(given: Given, n: int) -> Given:
    """n of the labels or conditions, drawn at random, if there are any."""
    return None if given is None else given[torch.randint(len(given), (n,), device=given.device)]


def adaptive(data: DataSpec, config: GANConfig) -> AdaptiveAugmentation | None:
    """The augmentation of what the critic sees, if there is one."""
    if config.augment == "none":
        return None
    step = AdaptiveAugmentation.interval * config.batch_size / config.augment_images
    return AdaptiveAugmentation(config.transforms, data.shape[0], config.augment_target, step)


class GAN(Model):
    """Two players, two phases of a step: the critic tells real from fake, the generator tries to fool it.

    Penalties on their gradients are phases of their own, in every n-th step.
    """

    name = "gan"
    Config = GANConfig
    config: GANConfig
    conditional = True
    conditions = ("hole", "image")
    presets = PRESETS
    calibration: Tensor

    def __init__(self, data: DataSpec, config: GANConfig) -> None:
        super().__init__(data, config)
        generator, critic = NETWORKS[config.network]
        if config.sampler == "latent_langevin" and not critic.separate:
            raise ValueError(
                f"sampler = 'latent_langevin' needs a critic that scores each image alone: "
                f"network = {config.network!r} looks at the whole batch, set sampler = 'prior'"
            )
        sized = config.sized(data)
        self.generator = generator(data, sized)
        self.critic = critic(data, sized)
        if not config.unused("init"):
            for network in (self.generator, self.critic):
                initialise(network, config.init)
        self.augment = adaptive(data, config)
        self.path_length = PathLength() if self.penalises_paths else None
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))

    @property
    def penalises_paths(self) -> bool:
        return self.config.network == "style" and self.config.path_length > 0

    @property
    def updates_per_r1(self) -> int:
        """The critic's updates by its other loss for one by the R1 penalty."""
        return self.config.r1_every * self.config.critic_steps

    @property
    def nfe(self) -> int:
        """One of the generator, and before it the gradients through both networks."""
        c = self.config
        return 1 + (2 * EVALUATIONS_OF_A_GRADIENT * c.steps if c.sampler == "latent_langevin" else 0)

    @property
    def eager(self) -> tuple[nn.Module, ...]:
        """Penalties differentiate the gradient of a network, which torch.compile does not support."""
        c = self.config
        critic = (self.critic,) if c.loss == "wasserstein" or c.r1 else ()
        return (*critic, self.generator) if self.penalises_paths else critic

    def phases(self) -> list[Phase]:
        c = self.config
        schedule = {"linear": warmup_linear, "constant": warmup_constant}[c.annealing]
        critic = lazy_adam(self.critic, c.critic_learning_rate, c.betas, self.updates_per_r1 if c.r1 else 0)
        generator = lazy_adam(self.generator, c.learning_rate, c.betas, c.path_every if self.penalises_paths else 0)
        phases = [Phase("critic", self.critic, critic, repeats=c.critic_steps, schedule=schedule)]
        if c.r1:
            phases.append(Phase("r1", self.critic, critic, schedule=schedule, every=c.r1_every))
        phases.append(Phase("generator", self.generator, generator, schedule=schedule))
        if self.penalises_paths:
            phases.append(Phase("path_length", self.generator, generator, schedule=schedule, every=c.path_every))
        return phases

    def loss(self, phase: str, batch: Batch) -> dict[str, Tensor]:
        losses = {
            "critic": self.critic_loss, "generator": self.generator_loss, "r1": self.r1_loss,
            "path_length": self.path_length_loss,
        }  # fmt: skip
        return losses[phase](batch)

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Where conditions show images, with the energy score of two answers: a critic sees one answer to each."""
        images = self.fakes(len(batch), batch.given)
        loss = generator_loss(self.config.loss, self.score(images, batch.given))
        if self.data.shown and self.config.energy_score:
            others = self.fakes(len(batch), batch.given)
            loss = loss + self.config.energy_score * energy_score(batch.images, images, others)
        if self.config.orthogonal and not self.config.unused("orthogonal"):
            loss = loss + self.config.orthogonal * orthogonal_penalty(self.generator)
        return {"loss": loss}

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Real and generated images under the same conditions, scored in one pass of the critic."""
        with torch.no_grad():
            fake_images = self.fakes(len(batch), batch.given)
        given = None if batch.given is None else batch.given.repeat(2)
        real_images = pasted(batch.images, batch.given)
        real, fake = self.score(torch.cat([real_images, fake_images]), given).chunk(2)
        loss = critic_loss(self.config.loss, real, fake)
        if self.config.loss == "wasserstein":
            penalty = gradient_penalty(lambda images: self.critic(images, batch.given), real_images, fake_images)
            loss = loss + self.config.gradient_penalty * penalty
        losses = {"loss": loss, "real_score": real.mean(), "fake_score": fake.mean()}
        if self.augment is not None:
            losses |= {"real_sign": real.sign().mean(), "augment_p": self.augment.p.clone()}
            if self.training:
                self.augment.observe(real)
        return losses

    def r1_loss(self, batch: Batch) -> dict[str, Tensor]:
        """At the images as they are: their gradient passes the augmentation, if there is one."""
        penalty = r1_penalty(lambda images: self.score(images, batch.given), pasted(batch.images, batch.given))
        return {"loss": self.updates_per_r1 * self.config.r1 / 2 * penalty, "penalty": penalty}

    def path_length_loss(self, batch: Batch) -> dict[str, Tensor]:
        """On half of a batch, as published."""
        assert self.path_length is not None
        batch = batch[: -(-len(batch) // 2)]
        w = self.generator.mapping(self.latents(len(batch)), batch.given)
        penalty, length = self.path_length(self.generator.of(w), w)
        loss = self.config.path_every * self.config.path_length * penalty
        return {"loss": loss, "penalty": penalty, "length": length}

    def score(self, images: Tensor, given: Given) -> Tensor:
        """The critic's scores (B,) of images, augmented if that is asked for."""
        scores: Tensor = self.critic(images if self.augment is None else self.augment(images), given)
        return scores

    def latents(self, n: int) -> Tensor:
        """From the prior, (n, latent)."""
        return torch.randn(n, self.config.latent, device=self.calibration.device)

    def fakes(self, n: int, given: Given) -> Tensor:
        """Generated images (n, C, H, W) as the critic sees them in training; they need not be within [-1, 1]."""
        images: Tensor = self.generator(self.latents(n), given)
        return images

    def settle(self, batch: Batch) -> None:
        """The statistics of averaged weights, and the critic's calibration on real and as many generated images."""
        size, _ = self.config.pieces
        if self.config.norm == "batch" and self.config.ema_decay > 0:
            standing_statistics(self.generator, lambda: self.fakes(size, some(batch.given, size)))
        if not self.critic.separate:
            return
        scores = []
        for part in (batch[start : start + size] for start in range(0, len(batch), size)):
            fakes = self.fakes(len(part), part.given)
            reals = pasted(part.images, part.given)
            scores.append(torch.stack([self.critic(images, part.given) for images in (reals, fakes)]))
        self.calibration.copy_(calibration(*torch.cat(scores, 1)))

    def log_ratio(self, images: Tensor, given: Given = None) -> Tensor:
        """The calibrated critic's log p_real(x) / p_fake(x), (B,)."""
        scale, offset = self.calibration
        ratio: Tensor = scale * self.critic(images, given) + offset
        return ratio

    def sample(self, n: int, given: Given = None) -> Tensor:
        c = self.config
        z = self.latents(n)
        if c.sampler == "latent_langevin":
            z = latent_langevin(z, lambda z: self.log_ratio(self.generator(z, given), given), c, self.report)
        elif c.truncation:
            z = truncated_normal(n, c.latent, c.truncation, z.device)
        images: Tensor = self.generator(z, given)
        return images.clamp(-1, 1)
