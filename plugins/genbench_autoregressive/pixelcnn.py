"""Gated PixelCNN: exact probabilities of levels, one sub-pixel after another (van den Oord et al. 2016)."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench import Batch, DataSpec, Model, hookimpl
from genbench.images import LEVELS, bits_per_dim, to_uint8
from genbench_autoregressive.levels import Levels
from genbench_autoregressive.model import Gated, Inverse
from genbench_autoregressive.order import categorical, in_pieces
from genbench_autoregressive.settings import PAPER, GatedConfig


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(PixelCNN)


class Softmax(nn.Module):
    """Logits (..., G, 256) from features (..., G, C), zero at first: one linear map, and a bias for each group."""

    def __init__(self, features: int, groups: int, waves: int) -> None:
        super().__init__()
        self.levels = Levels(1, features, waves, 0.0, 0.0)
        self.bias = nn.Parameter(torch.zeros(groups, LEVELS))

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.levels()[0]) + self.bias


class PixelCNN(Gated):
    """P(x) = prod_i P(x_i | x_1 ... x_(i-1)), each factor a softmax over the 256 levels."""

    name = "pixelcnn"
    Config = GatedConfig
    discrete = True
    head: Softmax
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"width": 16, "layers": 2, "head": 8, "waves": 2},
        "small": {},
        "paper": PAPER,
    }

    def __init__(self, data: DataSpec, config: GatedConfig) -> None:
        super().__init__(data, config)
        self.head = Softmax(config.head, self.order.groups, config.waves)

    @property
    def output(self) -> nn.Module:
        return self.head

    def nats(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """log P, nats per image (B,), of images that fit into memory together."""
        levels = self.order.fold(to_uint8(images))
        return self.order.log_prob(self.head(self.trunk(levels, labels)), levels)

    def log_prob(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """log P of the levels of images (B, C, H, W), nats per image (B,)."""
        return in_pieces(self.nats, images, labels)

    def loss(self, phase: str, batch: Batch) -> Tensor:
        return bits_per_dim(self.nats(batch.images, batch.labels), self.data.dims, discrete=True).mean()

    def inverse(self) -> Inverse:
        weight, bias = self.head.levels()[0], self.head.bias
        return lambda features, group, uniform: categorical(F.linear(features, weight, bias[group]), uniform)
