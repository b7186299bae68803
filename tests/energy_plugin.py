"""An energy-based model with a replay memory (Du & Mordatch 2019, "Implicit Generation and Modeling with EBMs")."""

import torch
from torch import Tensor, nn

from genbench import Batch, DataSpec, Model, Phase, adamw, field, hookimpl

genbench_api = 2


class Energy(Model):
    """p(x) is proportional to exp(-E(x)): learned by contrast with what Langevin dynamics makes of a replay memory."""

    name = "energy"

    class Config(Model.Config):
        memory: int = field(200, "train", "images that are remembered", ge=64)
        fresh: float = field(0.05, "train", "share of the chains that begin anew from noise", ge=0, le=1)
        train_steps: int = field(5, "train", "Langevin steps per update", ge=1)
        steps: int = field(20, "sample", "Langevin steps per sample", ge=1)
        step_size: float = field(5.0, "train", "of the gradient in a Langevin step", gt=0)
        noise: float = field(0.01, "train", "deviation of the noise in a Langevin step", ge=0)
        penalty: float = field(0.1, "train", "weight of the squared energies, reached halfway through training", ge=0)

    def __init__(self, data: DataSpec, config: Config) -> None:
        super().__init__(data, config)
        self.config: Energy.Config = config
        c, h, w = data.shape
        self.net = nn.Sequential(
            nn.Conv2d(c, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.SiLU(),
            nn.Flatten(), nn.Linear(16 * (h // 2) * (w // 2), 1),
        )  # fmt: skip
        self.register_memory("replay", 2 * torch.rand(config.memory, *data.shape) - 1)

    @property
    def nfe(self) -> int:
        return self.config.steps

    def phases(self) -> list[Phase]:
        return [Phase("train", self, adamw(self, self.config.learning_rate), clip=1.0)]

    def energy(self, images: Tensor) -> Tensor:
        """E(x), (B,), up to a constant."""
        return self.net(images).squeeze(1)

    def langevin(self, images: Tensor, steps: int) -> Tensor:
        """The images (B, C, H, W) after some steps down the energy, with noise."""
        for _ in range(steps):
            with torch.enable_grad():
                images = images.detach().requires_grad_()
                (slope,) = torch.autograd.grad(self.energy(images).sum(), images)
            images = images.detach() - self.config.step_size * slope.clamp(-0.03, 0.03)
            images = (images + self.config.noise * torch.randn_like(images)).clamp(-1, 1)
        return images

    def loss(self, phase: str, batch: Batch) -> dict[str, Tensor]:
        chosen = torch.randperm(len(self.replay), device=self.replay.device)[: len(batch)]
        noise = 2 * torch.rand_like(batch.images) - 1
        anew = torch.rand(len(batch), 1, 1, 1, device=noise.device) < self.config.fresh
        made = self.langevin(torch.where(anew, noise, self.replay[chosen]), self.config.train_steps)
        self.replay[chosen] = made
        real, fake = self.energy(batch.images), self.energy(made)
        size = (real.square() + fake.square()).mean()
        gap = real.mean() - fake.mean()
        return {"loss": gap + self.config.penalty * min(1.0, 2 * batch.progress) * size, "gap": gap}

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        noise = 2 * torch.rand(n, *self.data.shape, device=self.net[0].weight.device) - 1
        return self.langevin(noise, self.config.steps)


@hookimpl
def register_models(register):
    register(Energy)
