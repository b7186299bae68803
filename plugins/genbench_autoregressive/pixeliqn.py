"""PixelIQN: an autoregressive model learned by quantile regression (Ostrovski, Dabney & Munos 2018)."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench import Batch, DataSpec, Model, field, hookimpl
from genbench.images import to_uint8
from genbench_autoregressive.model import Gated, Inverse
from genbench_autoregressive.settings import PAPER, GatedConfig


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(PixelIQN)


def quantile_huber(error: Tensor, tau: Tensor, kappa: float) -> Tensor:
    """|tau - 1{u < 0}| L_kappa(u) / kappa of errors u = target - prediction, elementwise; L is Huber's loss.

    For small kappa its mean is least where the prediction is the tau-quantile of the target. Source: equation 10, with
    Dabney et al. 2018, "Distributional reinforcement learning with quantile regression".
    """
    huber = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=kappa) / kappa
    return (tau - (error < 0).to(error.dtype)).abs() * huber


class QuantileHead(nn.Module):
    """Values of quantile functions at tau (...), from features (..., C); shapes broadcast.

    tau enters by cosines, whose linear map multiplies the features (Dabney et al. 2018, "Implicit quantile networks for
    distributional reinforcement learning", section 3.1), so that it reaches nothing but its own sub-pixel. What is
    learned is the difference from the uniform distribution on [-1, 1), 2 tau - 1.
    """

    frequencies: Tensor

    def __init__(self, features: int, frequencies: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi * torch.arange(frequencies), persistent=False)
        self.embed = nn.Linear(frequencies, features)
        self.hidden = nn.Linear(features, features)
        self.out = nn.Linear(features, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor, tau: Tensor) -> Tensor:
        embedded = F.relu(self.embed((tau[..., None] * self.frequencies).cos()))
        learned: Tensor = self.out(F.relu(self.hidden(features * embedded)))
        return 2 * tau - 1 + learned[..., 0]


class PixelIQNConfig(GatedConfig):
    """The settings of `pixeliqn`."""

    frequencies: int = field(64, "train", "cosines in which tau is embedded", ge=1)
    quantiles: int = field(
        4, "train", "values of tau per sub-pixel and update, which share one pass of the layers", ge=1
    )
    kappa: float = field(4e-3, "train", "half-width of the loss's quadratic part; images are in [-1, 1]", gt=0)


class PixelIQN(Gated):
    """x_i = Q(tau_i, x_1 ... x_(i-1)) with tau_i uniform on [0, 1): the quantile function of each sub-pixel is learned.

    Nothing makes Q rise with tau, so no density follows from it. It is learned on dequantised images, whose quantile
    function has no steps, and what is drawn is rounded down to a level before the next sub-pixel sees it.
    """

    name = "pixeliqn"
    Config = PixelIQNConfig
    config: PixelIQNConfig
    head: QuantileHead
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"width": 16, "layers": 2, "head": 8, "waves": 2, "frequencies": 8},
        "small": {},
        "paper": {**PAPER, "quantiles": 1},
    }

    def __init__(self, data: DataSpec, config: PixelIQNConfig) -> None:
        super().__init__(data, config)
        self.head = QuantileHead(config.head, config.frequencies)

    @property
    def output(self) -> nn.Module:
        return self.head.out

    def loss(self, phase: str, batch: Batch) -> Tensor:
        features = self.trunk(self.order.fold(to_uint8(batch.images)), batch.labels)
        tau = torch.rand(self.config.quantiles, *features.shape[:-1], device=features.device)
        values, tau = (self.order.unfold(x.flatten(0, 1)) for x in (self.head(features, tau), tau))
        error = batch.images.repeat(self.config.quantiles, 1, 1, 1) - values
        return quantile_huber(error, tau, self.config.kappa).mean()

    def inverse(self) -> Inverse:
        return lambda features, group, uniform: to_uint8(self.head(features, uniform)).long()
