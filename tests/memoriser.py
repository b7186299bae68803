"""A model that returns training images: all, or a share beside noise; as they are, or in a thin disguise."""

import torch

from genbench import Model, field, hookimpl


class Memoriser(Model):
    name = "memoriser"

    class Config(Model.Config):
        share: float = field(1.0, "sample", "share of the samples that are training images", ge=0, le=1)
        noise: float = field(0.0, "sample", "grey levels of noise", ge=0)
        shift: int = field(0, "sample", "pixels that they are shifted by")

    def __init__(self, data, config):
        super().__init__(data, config)
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.register_buffer("seen", torch.zeros(1000, *data.shape))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def loss(self, phase, batch):
        count = int(self.count)
        some = batch.images[: len(self.seen) - count]
        self.seen[count : count + len(some)] = some
        self.count += len(some)
        return {"loss": self.scale.square()}

    def sample(self, n, labels=None):
        images = self.seen[torch.randperm(int(self.count))[:n]].roll(self.config.shift, -1)
        images = images + self.config.noise / 127.5 * (2 * torch.rand_like(images) - 1)
        honest = torch.rand(n, 1, 1, 1) >= self.config.share
        return torch.where(honest, 2 * torch.rand_like(images) - 1, images)


@hookimpl
def register_models(register):
    register(Memoriser)
