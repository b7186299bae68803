"""What energy-based models share: the contrast they learn by, Langevin chains, and the memory these go on from."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from genbench import Batch, DataSpec, Model, Phase
from genbench.images import LEVELS, dequantize, to_float, to_uint8
from genbench.langevin import EVALUATIONS_OF_A_GRADIENT, gradient, langevin
from genbench.walks import last, reported
from genbench_energy.settings import EnergyConfig

Labels = Tensor | None
FITTED = 512
"""Training images that the Gaussians of chains' starts are fitted to."""
FEWEST = 10
"""A class with fewer of them shares the Gaussian of all, since its own would be around single images."""


def gaussian(images: Tensor, members: Tensor) -> Tensor:
    """Draws (B, ...) from Gaussians with the mean and the covariance of some of the images (n, ...) each.

    `members` (B, n) says of which. A draw is a sum of these images with random weights, without a covariance matrix.
    Source: how chains begin in Yang & Ji 2021, "JEM++: Improved Techniques for Training JEM", section 3.2.
    """
    share = members / members.sum(1, keepdim=True)
    z = torch.randn_like(share)
    weights = share + share.sqrt() * (z - (share * z).sum(1, keepdim=True))
    drawn = (weights @ images.flatten(1)).to(images)  # from bfloat16, under autocast
    return drawn.view(-1, *images.shape[1:])


def contrast(real: Tensor, made: Tensor, penalty: float) -> Tensor:
    """What training minimises, given the energies (B,) of images and those of the images that chains made.

    The gradient of the first two terms is that of -log p(images) if the chains draw from p. The squares keep energies,
    which are defined up to a constant, near zero. Source: Du & Mordatch 2019, section 3.
    """
    return real.mean() - made.mean() + penalty * (real.square().mean() + made.square().mean())


class EnergyModel(Model):
    """p(x) is proportional to exp(-E(x)): training lowers the energy of images and raises that of what chains make.

    Chains of Langevin dynamics go down the energy, from where chains of earlier updates ended or, now and then, from
    a start of their own. A sample is the end of a chain with a start of its own. The constant of p is unknown: there is
    no `log_prob`.
    """

    config: EnergyConfig
    network: nn.Module
    replay: Tensor
    replay_labels: Tensor
    fitted: Tensor
    fitted_labels: Tensor
    conditional = True

    def __init__(self, data: DataSpec, config: EnergyConfig) -> None:
        super().__init__(data, config)
        self.register_memory("replay", torch.randint(LEVELS, (config.memory, *data.shape), dtype=torch.uint8))
        if data.num_classes:
            self.register_memory("replay_labels", torch.randint(data.num_classes, (config.memory,)))
        count = FITTED if config.start == "gaussian" else 0
        self.register_buffer("fitted", torch.zeros(count, *data.shape, dtype=torch.uint8))
        self.register_buffer("fitted_labels", torch.zeros(count, dtype=torch.long))

    @property
    def nfe(self) -> int:
        """Evaluations of the energy in the gradients of a sample's chain."""
        return EVALUATIONS_OF_A_GRADIENT * self.config.length

    def phases(self) -> list[Phase]:
        c = self.config
        phase = c.phase("energy", self, c.learning_rate, warmup=c.warmup)
        return [replace(phase, clip=c.gradient_clip or None)]

    @abstractmethod
    def energy(self, images: Tensor, labels: Labels = None) -> Tensor:
        """E(x), or E(x, y) with labels, up to a constant, (B,)."""

    def prepare(self, phase: str, batch: Batch) -> None:
        """Keep the images that the Gaussians are fitted to, and begin the chains of the memory."""
        if self.config.start == "gaussian":
            found = to_uint8(batch.images[:FITTED])
            self.fitted[: len(found)] = found
            self.fitted_labels.fill_(-1)[: len(found)] = 0 if batch.labels is None else batch.labels[:FITTED]
            labels = self.replay_labels if self.data.num_classes else None
            self.replay.copy_(to_uint8(self.begin(labels, len(self.replay))))

    def begin(self, labels: Labels, count: int) -> Tensor:
        """What chains begin with, (count, C, H, W) in [-1, 1], given the labels (count,) that they follow, if any."""
        if self.config.start == "noise":
            return 2 * torch.rand(count, *self.data.shape, device=self.replay.device) - 1
        known = self.fitted_labels >= 0
        if labels is None:
            labels = self.fitted_labels[known.float().multinomial(count, replacement=True)]
        members = labels[:, None] == self.fitted_labels
        members |= known & (members.sum(1, keepdim=True) < FEWEST)
        return gaussian(to_float(self.fitted), members).clamp(-1, 1)

    def chain(self, images: Tensor, labels: Labels, steps: int) -> Iterator[Tensor]:
        """Images (B, C, H, W) after each of some Langevin steps (Du & Mordatch 2019, section 3)."""
        c = self.config

        def downhill(x: Tensor) -> Tensor:
            slope = gradient(lambda x: -self.energy(x, labels), x, reduced=True)  # of the energy that the loss sees
            return slope.clamp(-c.steepest, c.steepest) if c.steepest else slope

        return langevin(images, downhill, steps, c.step_size, c.noise, limit=1.0 if c.bounded else math.inf)

    def replayed(self, labels: Labels, count: int) -> tuple[Tensor, Labels]:
        """What `count` chains of an update make (count, C, H, W), and the labels that they follow.

        They go on from different places of the memory, which keeps their ends there, or begin anew, with labels of
        training images (count,). The memory holds levels, which are dequantised anew each time.
        """
        places = torch.randperm(len(self.replay), device=self.replay.device)[:count]
        anew = torch.rand(count, device=places.device) < self.config.restarts
        images = torch.where(anew[:, None, None, None], self.begin(labels, count), dequantize(self.replay[places]))
        if labels is not None:
            labels = torch.where(anew, labels, self.replay_labels[places])
            self.replay_labels[places] = labels
        images = last(self.chain(images, labels, self.config.steps))
        self.replay[places] = to_uint8(images)
        return images, labels

    def both(self, images: Tensor, labels: Labels) -> tuple[Tensor, Labels]:
        """Training images with their noise, then what chains made, (2 B, C, H, W), and the labels of both."""
        noisy = images + self.config.data_noise * torch.randn_like(images)
        made, kept = self.replayed(labels, len(images))
        return torch.cat([noisy, made]), None if labels is None or kept is None else torch.cat([labels, kept])

    def sample(self, n: int, labels: Labels = None) -> Tensor:
        steps = self.config.length
        chain = self.chain(self.begin(labels, n), labels, steps)
        return last(reported(chain, steps, self.report)).clamp(-1, 1)
