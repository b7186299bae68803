"""GAN: a generator against a spectrally normalised critic, convolutional or residual (Miyato et al. 2018)."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench import Batch, DataSpec, Model, Phase, adamw, hookimpl, warmup_linear
from genbench.langevin import EVALUATIONS_OF_A_GRADIENT
from genbench_gan import hierarchy
from genbench_gan.hierarchy import HierarchicalCritic, HierarchicalGenerator
from genbench_gan.latent_langevin import calibration, latent_langevin, truncated_normal
from genbench_gan.networks import ConvCritic, ConvGenerator
from genbench_gan.orthogonal import initialise, orthogonal_penalty
from genbench_gan.residual import ResidualCritic, ResidualGenerator
from genbench_gan.settings import GANConfig
from genbench_gan.standing import standing_statistics


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(GAN)


def critic_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """What the critic minimises, given its scores for real and generated images, (B,) each.

    `hinge`: Lim & Ye 2017; `non_saturating`: Goodfellow et al. 2014; `wasserstein`: Arjovsky et al. 2017.
    """
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    if kind == "non_saturating":
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    return fake.mean() - real.mean()


def generator_loss(kind: str, fake: Tensor) -> Tensor:
    """What the generator minimises, given the critic's scores for its images, (B,)."""
    return F.softplus(-fake).mean() if kind == "non_saturating" else -fake.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (|grad critic| - 1)^2 at random points between real and fake (Gulrajani et al. 2017, equation 3)."""
    share = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device)
    between = torch.lerp(fake, real, share).requires_grad_()
    gradient: Tensor = torch.autograd.grad(critic(between).sum(), between, create_graph=True)[0]
    norms: Tensor = torch.linalg.vector_norm(gradient.float().flatten(1), dim=1)
    return (norms - 1).square().mean()


NETWORKS = {
    "conv": (ConvGenerator, ConvCritic),
    "residual": (ResidualGenerator, ResidualCritic),
    "biggan": (HierarchicalGenerator, HierarchicalCritic),
    "biggan_deep": (HierarchicalGenerator, HierarchicalCritic),
}


def some(labels: Tensor | None, n: int) -> Tensor | None:
    """n of the labels, drawn at random, if there are any."""
    return None if labels is None else labels[torch.randint(len(labels), (n,), device=labels.device)]


class GAN(Model):
    """Two players, two phases of a step: the critic tells real from fake, the generator tries to fool it."""

    name = "gan"
    Config = GANConfig
    config: GANConfig
    conditional = True
    calibration: Tensor
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"width": 8, "critic_width": 8, "latent": 8, "depth": 1, "batch_size": 16},
        "small": {},
        # Miyato et al. 2018. CIFAR-10's networks of table 3, the loss of equation 15, setting C of table 1.
        "paper": {
            "batch_size": 64, "learning_rate": 2e-4, "critic_learning_rate": 2e-4, "betas": (0.5, 0.999),
            "loss": "non_saturating", "norm": "batch", "ema_decay": 0.0, "latent": 128, "width": 64,
            "critic_width": 64, "patch": 1, "base": 4, "depth": 1,
        },
        # Those of table 4, the hinge loss of equations 16 and 17, the optimizer of appendix B.2.
        "paper-resnet": {
            "batch_size": 64, "learning_rate": 2e-4, "critic_learning_rate": 2e-4, "betas": (0.0, 0.9),
            "critic_steps": 5, "network": "residual", "norm": "batch", "ema_decay": 0.0, "latent": 128, "width": 256,
            "critic_width": 128, "patch": 1, "base": 4, "depth": 2,
        },
        **hierarchy.PRESETS,
    }  # fmt: skip

    def __init__(self, data: DataSpec, config: GANConfig) -> None:
        super().__init__(data, config)
        generator, critic = NETWORKS[config.network]
        if config.sampler == "latent_langevin" and not critic.separate:
            raise ValueError(
                f"sampler = 'latent_langevin' needs a critic that scores each image alone: "
                f"network = {config.network!r} looks at the whole batch, set sampler = 'prior'"
            )
        self.generator = generator(data, config)
        self.critic = critic(data, config)
        for network in (self.generator, self.critic):
            initialise(network, config.init)
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))

    @property
    def nfe(self) -> int:
        """One of the generator, and before it the gradients through both networks."""
        c = self.config
        return 1 + (2 * EVALUATIONS_OF_A_GRADIENT * c.steps if c.sampler == "latent_langevin" else 0)

    @property
    def eager(self) -> tuple[nn.Module, ...]:
        """The gradient penalty differentiates the critic's gradient, which torch.compile does not support."""
        return (self.critic,) if self.config.loss == "wasserstein" else ()

    def phases(self) -> list[Phase]:
        c = self.config
        critic = adamw(self.critic, c.critic_learning_rate, c.betas)
        generator = adamw(self.generator, c.learning_rate, c.betas)
        return [
            Phase("critic", self.critic, critic, repeats=c.critic_steps, schedule=warmup_linear),
            Phase("generator", self.generator, generator, schedule=warmup_linear),
        ]

    def loss(self, phase: str, batch: Batch) -> dict[str, Tensor]:
        if phase == "critic":
            return self.critic_loss(batch)
        score = self.critic(self.fakes(len(batch), batch.labels), batch.labels)
        loss = generator_loss(self.config.loss, score)
        if self.config.orthogonal:
            loss = loss + self.config.orthogonal * orthogonal_penalty(self.generator)
        return {"loss": loss}

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Real and generated images of the same labels, scored in one pass of the critic."""
        with torch.no_grad():
            fake_images = self.fakes(len(batch), batch.labels)
        labels = None if batch.labels is None else batch.labels.repeat(2)
        real, fake = self.critic(torch.cat([batch.images, fake_images]), labels).chunk(2)
        loss = critic_loss(self.config.loss, real, fake)
        if self.config.loss == "wasserstein":
            penalty = gradient_penalty(lambda images: self.critic(images, batch.labels), batch.images, fake_images)
            loss = loss + self.config.gradient_penalty * penalty
        return {"loss": loss, "real_score": real.mean(), "fake_score": fake.mean()}

    def latents(self, n: int) -> Tensor:
        """From the prior, (n, latent)."""
        return torch.randn(n, self.config.latent, device=self.calibration.device)

    def fakes(self, n: int, labels: Tensor | None) -> Tensor:
        """Generated images (n, C, H, W) as the critic sees them in training."""
        images: Tensor = self.generator(self.latents(n), labels)
        return images

    def settle(self, batch: Batch) -> None:
        """The statistics of averaged weights, and the critic's calibration on real and as many generated images."""
        size, _ = self.config.pieces
        if self.config.norm == "batch" and self.config.ema_decay > 0:
            standing_statistics(self.generator, lambda: self.fakes(size, some(batch.labels, size)))
        scores = []
        for part in (batch[start : start + size] for start in range(0, len(batch), size)):
            fakes = self.fakes(len(part), part.labels)
            scores.append(torch.stack([self.critic(images, part.labels) for images in (part.images, fakes)]))
        self.calibration.copy_(calibration(*torch.cat(scores, 1)))

    def log_ratio(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The calibrated critic's log p_real(x) / p_fake(x), (B,)."""
        scale, offset = self.calibration
        ratio: Tensor = scale * self.critic(images, labels) + offset
        return ratio

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        c = self.config
        z = self.latents(n)
        if c.sampler == "latent_langevin":
            z = latent_langevin(z, lambda z: self.log_ratio(self.generator(z, labels), labels), c, self.report)
        elif c.truncation:
            z = truncated_normal(n, c.latent, c.truncation, z.device)
        images: Tensor = self.generator(z, labels)
        return images
