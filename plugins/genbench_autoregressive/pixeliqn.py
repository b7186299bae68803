"""PixelIQN: an autoregressive model learned by quantile regression (Ostrovski, Dabney & Munos 2018)."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench import Batch, DataSpec, Model, field, hookimpl
from genbench.images import LEVELS, to_uint8
from genbench_autoregressive.gated import gate
from genbench_autoregressive.model import Gated, Inverse
from genbench_autoregressive.settings import PAPER, GatedConfig

TAIL = 1e-4
"""A tau nearer to 0 or 1 is taken for this one."""
LIMIT = math.log(1 / TAIL - 1)


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(PixelIQN)


def to_value(levels: Tensor) -> Tensor:
    """Levels 0 to 255 as -1 to 1, so that a quantile function which is black or white is one at its bounds."""
    return 2 * levels.float() / (LEVELS - 1) - 1


def to_level(values: Tensor) -> Tensor:
    """The level, int64, that is nearest to values in [-1, 1]."""
    return ((values + 1) * (LEVELS - 1) / 2).round().long()


def quantile_huber(error: Tensor, tau: Tensor, kappa: float) -> Tensor:
    """|tau - 1{u < 0}| L_kappa(u) / kappa of errors u = target - prediction, elementwise; L is Huber's loss.

    For small kappa its mean is least where the prediction is the tau-quantile of the target. Source: equation 10, with
    Dabney et al. 2018, "Distributional reinforcement learning with quantile regression".
    """
    huber = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=kappa) / kappa
    return (tau - (error < 0).to(error.dtype)).abs() * huber


class QuantileHead(nn.Module):
    """Values in (-1, 1) of quantile functions at tau (...), from features (..., C); shapes broadcast.

    tau conditions a gated layer as a class does (van den Oord et al. 2016, equation 4), one that sees nothing but the
    features of its own sub-pixel: Q = tanh(s / 2 + w gate(W f + v s + b)), s = logit(tau). At first that is the uniform
    distribution, 2 tau - 1. Units are steep in s and begin at centres all over its range, since the quantile function
    of a sub-pixel that is black with probability p jumps at s = logit(p).
    """

    def __init__(self, features: int, gates: int) -> None:
        super().__init__()
        self.features = nn.Linear(features, 2 * gates)
        self.slope = nn.Parameter(torch.randn(2 * gates))
        self.out = nn.Linear(gates, 1)
        centres = torch.empty(2 * gates).uniform_(-LIMIT, LIMIT)
        with torch.no_grad():
            self.features.bias.copy_(-self.slope * centres)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor, tau: Tensor) -> Tensor:
        logit = tau.logit(eps=TAIL)
        learned: Tensor = self.out(gate(self.features(features) + self.slope * logit[..., None], dim=-1))
        return (logit / 2 + learned[..., 0]).tanh()


def draw_tau(count: int, like: Tensor, how: str) -> Tensor:
    """`count` values of tau for each entry of `like` (...), (count, ...): one from each of as many equal shares.

    "uniform" on [0, 1], as they are drawn in sampling, or "logit": logit(tau) is uniform between the tails. The mean
    of |tau - 1{x < q}| |x - q| over tau is then not the distribution function's quadratic score, summed over
    thresholds, but its logarithmic one, as in a likelihood (Schervish 1989, "A general method for comparing probability
    assessors"): it is as strict about what is rare.
    """
    shares = torch.arange(count, device=like.device).view(-1, *[1] * like.dim())
    even = (torch.rand(count, *like.shape, device=like.device) + shares) / count
    return (LIMIT * (2 * even - 1)).sigmoid() if how == "logit" else even


class PixelIQNConfig(GatedConfig):
    """The settings of `pixeliqn`."""

    gates: int = field(48, "train", "gated units of the layer that tau conditions", ge=1)
    quantiles: int = field(
        4, "train", "values of tau per sub-pixel and update, which share one pass of the layers", ge=1
    )
    tau: Literal["logit", "uniform"] = field(
        "logit", "train", "what of tau is uniform in training: its logit, so that rare values count, or tau itself"
    )
    kappa: float = field(
        2e-3, "train", "half-width of the loss's quadratic part; levels are 7.8e-3 apart, and what is drawn is rounded",
        gt=0,
    )  # fmt: skip

    def unused(self, name: str) -> str:
        return "embedding = 0" if name == "waves" and not self.embedding else super().unused(name)


class PixelIQN(Gated):
    """x_i = Q(tau_i, x_1 ... x_(i-1)) with tau_i uniform on [0, 1): the quantile function of each sub-pixel is learned.

    Nothing makes Q rise with tau, so no density follows from it. It is learned on levels, and what is drawn is
    rounded to one before the next sub-pixel sees it.
    """

    name = "pixeliqn"
    Config = PixelIQNConfig
    config: PixelIQNConfig
    head: QuantileHead
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"width": 16, "layers": 2, "head": 8, "waves": 2, "gates": 16},
        "small": {},
        "paper": {**PAPER, "gates": PAPER["head"], "quantiles": 1, "tau": "uniform", "kappa": 4e-3},
    }

    def __init__(self, data: DataSpec, config: PixelIQNConfig) -> None:
        super().__init__(data, config)
        self.head = QuantileHead(config.head, config.gates)

    @property
    def output(self) -> nn.Module:
        return self.head.out

    def loss(self, phase: str, batch: Batch) -> Tensor:
        levels = to_uint8(batch.images)
        features = self.trunk(self.order.fold(levels), batch.labels)
        drawn = draw_tau(self.config.quantiles, features[..., 0], self.config.tau)
        values, tau = (self.order.unfold(x.flatten(0, 1)) for x in (self.head(features, drawn), drawn))
        error = to_value(levels).repeat(self.config.quantiles, 1, 1, 1) - values
        return quantile_huber(error, tau, self.config.kappa).mean()

    def inverse(self) -> Inverse:
        return lambda features, group, uniform: to_level(self.head(features, uniform))
