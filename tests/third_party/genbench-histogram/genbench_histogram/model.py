"""The model: a categorical distribution of the 256 levels for every pixel."""

import torch
from torch import Tensor, nn

from genbench import Batch, Config, DataSpec, Model, field


class HistogramConfig(Config):
    learning_rate: float = field(0.1, "train", "peak learning rate", gt=0)
    sharpness: float = field(1.0, "sample", "power to which probabilities are raised in samples", gt=0)


class Histogram(Model):
    """P(y) is the product of P(y_i) over the pixels: exact and discrete."""

    name = "histogram"
    Config = HistogramConfig
    config: HistogramConfig
    discrete = True

    def __init__(self, data: DataSpec, config: HistogramConfig) -> None:
        super().__init__(data, config)
        self.logits = nn.Parameter(torch.zeros(data.dims, 256))

    def log_prob(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Nats per image (B,) of the levels whose bin centres are given."""
        levels = ((images.flatten(1) + 1) * 128).long()
        return self.logits.log_softmax(1).T.gather(0, levels).sum(1)

    def loss(self, phase: str, batch: Batch) -> Tensor:
        return -self.log_prob(batch.images).mean() / self.data.dims

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        levels = torch.multinomial((self.config.sharpness * self.logits).softmax(1), n, replacement=True).T
        return ((levels + 0.5) / 128 - 1).unflatten(1, self.data.shape)
