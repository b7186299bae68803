"""A second plugin as the documentation of API version 1 described it: two optimizers, labels by position, a report."""

import torch
from torch import nn

from genbench import Batch, Config, DataSpec, Model, Phase, adamw, field, hookimpl

genbench_api = 1


class Pair(Model):
    """An image is the sum of two patterns, learned one after the other."""

    name = "pair"
    conditional = True

    class Config(Config):
        contrast: float = field(1.0, "train", "contrast of the second pattern", gt=0)

    def __init__(self, data: DataSpec, config: Config) -> None:
        super().__init__(data, config)
        self.first = nn.Embedding(max(1, data.num_classes), data.dims)
        self.second = nn.Linear(4, data.dims)

    def phases(self) -> list[Phase]:
        return [
            Phase("first", self.first, adamw(self.first, 1e-2), span=(0.0, 0.5)),
            Phase("second", self.second, adamw(self.second, 1e-2), span=(0.5, 1.0)),
        ]

    def base(self, n: int, labels: torch.Tensor | None) -> torch.Tensor:
        chosen = torch.zeros(n, dtype=torch.int64, device=self.second.weight.device) if labels is None else labels
        return self.first(chosen)

    def loss(self, phase: str, batch: Batch) -> torch.Tensor:
        images, drawn = batch.images.flatten(1), self.base(len(batch), batch.labels)
        if phase == "second":
            noise = torch.randn(len(batch), 4, device=images.device)
            drawn = drawn + self.config.contrast * self.second(noise)
        return (images - drawn).square().mean()

    def sample(self, n: int, labels: torch.Tensor | None = None) -> torch.Tensor:
        self.report(0.5)
        noise = torch.randn(n, 4, device=self.second.weight.device)
        drawn = self.base(n, labels) + self.config.contrast * self.second(noise)
        return drawn.view(n, *self.data.shape).clamp(-1, 1)


@hookimpl
def register_models(register):
    register(Pair)
