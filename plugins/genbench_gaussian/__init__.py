"""A Gaussian for every pixel: the smallest model genbench can compare, and the baseline of every table."""

import torch
from torch import Tensor, nn

from genbench import Batch, DataSpec, Model, hookimpl


@hookimpl
def register_models(register):
    register(PixelGaussian)


class PixelGaussian(Model):
    name = "gaussian"

    def __init__(self, data: DataSpec, config: Model.Config) -> None:
        super().__init__(data, config)
        self.mean = nn.Parameter(torch.zeros(data.shape))
        self.log_std = nn.Parameter(torch.zeros(data.shape))

    def log_prob(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        pixels = torch.distributions.Normal(self.mean, self.log_std.exp())
        return pixels.log_prob(images).flatten(1).sum(1)

    def loss(self, phase: str, batch: Batch) -> Tensor:
        return -self.log_prob(batch.images).mean() / self.data.dims

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        return self.mean + self.log_std.exp() * torch.randn(n, *self.data.shape, device=self.mean.device)
