"""What models with the layers of a Gated PixelCNN share: these, their optimizer and how samples are drawn."""

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from genbench import DataSpec, Model, Phase
from genbench.images import to_float
from genbench_autoregressive.order import Order, Place
from genbench_autoregressive.settings import GatedConfig
from genbench_autoregressive.trunk import Trunk, Walk

Inverse = Callable[[Tensor, int, Tensor], Tensor]
"""(features, group, uniform) -> the levels, int64 (B,), of a sub-pixel of this group with features (B, C), at which its
distribution function has the values `uniform` (B,)."""


class Gated(Model):
    """A model that predicts each sub-pixel from its features in a Gated PixelCNN, by a `head` of its own."""

    config: GatedConfig
    conditional = True
    head: nn.Module

    def __init__(self, data: DataSpec, config: GatedConfig) -> None:
        super().__init__(data, config)
        self.order = Order(data.shape, config.patch)
        self.trunk = Trunk(self.order, config, data.num_classes)

    @property
    def nfe(self) -> int:
        """One evaluation per sub-pixel, of what is new since the one before."""
        return math.prod(self.order.size) * self.order.groups

    @property
    @abstractmethod
    def output(self) -> nn.Module:
        """The last layer of the head."""

    @abstractmethod
    def inverse(self) -> Inverse:
        """How a sub-pixel is drawn."""

    def phases(self) -> list[Phase]:
        """Muon moves neither the vectors of the levels nor the output."""
        c, apart = self.config, (self.trunk.levels, self.output)
        others = [p for module in apart if module is not None for p in module.parameters()]
        return [c.phase("train", self, c.learning_rate, warmup=c.warmup, others=others)]

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        walk, inverse = Walk(self.trunk, n, labels), self.inverse()
        uniform = torch.rand(n, *self.order.size, self.order.groups, device=self.trunk.last.weight.device)

        def draw(known: Tensor, place: Place, at: Tensor) -> Tensor:
            return inverse(walk.features(known, place), place[2], at)

        return to_float(self.order.generate(uniform, draw, self.report))
