"""Gated PixelCNN: exact probabilities of levels, one sub-pixel after another (van den Oord et al. 2016)."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench import Batch, DataSpec, Model, Phase, hookimpl
from genbench.images import LEVELS, bits_per_dim, to_float, to_uint8
from genbench_autoregressive.order import Order, categorical
from genbench_autoregressive.settings import GatedConfig
from genbench_autoregressive.trunk import Trunk, Walk


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(PixelCNN)


class Gated(Model):
    """A model that predicts each sub-pixel from the features of a Gated PixelCNN, by a `head` of its own."""

    config: GatedConfig
    conditional = True
    head: nn.Module

    def __init__(self, data: DataSpec, config: GatedConfig) -> None:
        super().__init__(data, config)
        self.order = Order(data.shape, config.patch)
        self.trunk = Trunk(self.order, config, data.num_classes)

    @property
    def nfe(self) -> int:
        """One evaluation per sub-pixel, each of what is new since the one before."""
        return math.prod(self.order.size) * self.order.groups

    def phases(self) -> list[Phase]:
        return [self.config.phase(self, self.head)]

    def draw(self, features: Tensor, group: int, uniform: Tensor) -> Tensor:
        """Levels, int64 (B,), of a sub-pixel of `group` at which its distribution function has the values `uniform`."""
        raise NotImplementedError

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        walk = Walk(self.trunk, n, labels)
        uniform = torch.rand(n, *self.order.size, self.order.groups, device=self.trunk.last.weight.device)
        levels = self.order.generate(
            uniform, lambda known, place, at: self.draw(walk.features(known, place), place[2], at), self.report
        )
        return to_float(levels)


class Softmax(nn.Module):
    """Logits (..., G, 256) of the levels from features (..., G, C): one linear map for all groups, a bias for each."""

    def __init__(self, features: int, groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(LEVELS, features))
        self.bias = nn.Parameter(torch.zeros(groups, LEVELS))

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight) + self.bias


class PixelCNN(Gated):
    """P(x) = prod_i P(x_i | x_1 ... x_(i-1)), each factor a softmax over 256 levels."""

    name = "pixelcnn"
    Config = GatedConfig
    head: Softmax
    discrete = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"tiny": {"width": 16, "layers": 2, "head": 8}, "small": {}}

    def __init__(self, data: DataSpec, config: GatedConfig) -> None:
        super().__init__(data, config)
        self.head = Softmax(config.head, self.order.groups)

    def log_prob(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """log P of the levels of images (B, C, H, W), nats per image (B,)."""
        levels = self.order.fold(to_uint8(images))
        return self.order.log_prob(self.head(self.trunk(levels, labels)), levels)

    def loss(self, phase: str, batch: Batch) -> Tensor:
        return bits_per_dim(self.log_prob(batch.images, batch.labels), self.data.dims, discrete=True).mean()

    def draw(self, features: Tensor, group: int, uniform: Tensor) -> Tensor:
        return categorical(F.linear(features, self.head.weight) + self.head.bias[group], uniform)
