"""What energy-based models share: the contrast they learn by, Langevin chains, and the memory these go on from."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from genbench import DataSpec, Model, Phase
from genbench.images import LEVELS, dequantize, to_uint8
from genbench.langevin import EVALUATIONS_OF_A_GRADIENT, gradient, langevin
from genbench.walks import last
from genbench_energy.settings import EnergyConfig

Labels = Tensor | None


def contrast(real: Tensor, made: Tensor, penalty: float) -> Tensor:
    """What training minimises, given the energies (B,) of images and those of the images that chains made.

    The gradient of the first two terms is that of -log p(images) if the chains draw from p. The squares keep energies,
    which are defined up to a constant, near zero. Source: Du & Mordatch 2019, section 3.
    """
    return real.mean() - made.mean() + penalty * (real.square().mean() + made.square().mean())


class EnergyModel(Model):
    """p(x) is proportional to exp(-E(x)): training lowers the energy of images and raises that of what chains make.

    Chains of Langevin dynamics go down the energy, from where chains of earlier updates ended or, now and then, from
    noise. A sample is the end of a chain of its own, from noise. The constant of p is unknown: there is no `log_prob`.
    """

    config: EnergyConfig
    network: nn.Module
    replay: Tensor
    replay_labels: Tensor
    conditional = True
    bf16 = False
    """A step of a chain can be smaller than bfloat16 resolves, and must follow the energy that the loss sees."""

    def __init__(self, data: DataSpec, config: EnergyConfig) -> None:
        super().__init__(data, config)
        self.register_memory("replay", torch.randint(LEVELS, (config.memory, *data.shape), dtype=torch.uint8))
        if data.num_classes:
            self.register_memory("replay_labels", torch.randint(data.num_classes, (config.memory,)))

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

    def noise(self, count: int) -> Tensor:
        """What chains begin with: images (count, C, H, W), uniform in [-1, 1]."""
        return 2 * torch.rand(count, *self.data.shape, device=next(self.parameters()).device) - 1

    def chain(self, images: Tensor, labels: Labels, steps: int) -> Iterator[Tensor]:
        """Images (B, C, H, W) after each of some Langevin steps (Du & Mordatch 2019, section 3)."""
        c = self.config

        def downhill(x: Tensor) -> Tensor:
            slope = gradient(lambda x: -self.energy(x, labels), x)
            return slope.clamp(-c.steepest, c.steepest) if c.steepest else slope

        return langevin(images, downhill, steps, c.step_size, c.noise, limit=1.0 if c.bounded else math.inf)

    def replayed(self, labels: Labels, count: int) -> tuple[Tensor, Labels]:
        """What `count` chains of an update make (count, C, H, W), and the labels that they follow.

        They go on from different places of the memory, which keeps their ends there, or begin anew, with labels of
        training images (count,). The memory holds levels, which are dequantised anew each time.
        """
        places = torch.randperm(len(self.replay), device=self.replay.device)[:count]
        anew = torch.rand(count, device=places.device) < self.config.restarts
        images = torch.where(anew[:, None, None, None], self.noise(count), dequantize(self.replay[places]))
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
        images, steps = self.noise(n), self.config.length
        for step, state in enumerate(self.chain(images, labels, steps), 1):
            images = state
            self.report(step / steps)
        return images.clamp(-1, 1)
