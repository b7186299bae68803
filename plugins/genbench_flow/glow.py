"""Glow's levels: activation normalisation, invertible 1x1 convolution, coupling of halves (Kingma & Dhariwal 2018)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench import DataSpec
from genbench.nets import zeroed
from genbench_flow.layers import ActNorm, Constant, Coupling, Level
from genbench_flow.settings import FlowConfig
from genbench_flow.transforms import Affine, Transform


class InvertibleConv(nn.Module):
    """A 1x1 convolution that starts as a random rotation (3.2); float32 even under autocast, as is its determinant."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(channels, channels)))

    @staticmethod
    def apply_weight(weight: Tensor, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x, weight[:, :, None, None].to(x.dtype))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = torch.linalg.slogdet(self.weight).logabsdet * (x.shape[2] * x.shape[3])
        return self.apply_weight(self.weight, x), log_det.expand(len(x))

    def inverse(self, y: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.apply_weight(self.weight.double().inverse(), y)


class GlowNetwork(nn.Module):
    """3x3, 1x1 and 3x3 convolutions with ReLU, the last starting at zero (appendix B); labels shift the first."""

    def __init__(self, channels: int, outputs: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.labels = nn.Embedding(num_classes, width) if num_classes else None
        self.middle = nn.Conv2d(width, width, 1)
        self.last = zeroed(nn.Conv2d(width, outputs, 3, padding=1))

    def forward(self, context: Tensor, labels: Tensor | None) -> Tensor:
        h = self.first(context)
        if self.labels is not None:
            h = h + self.labels(labels)[:, :, None, None]
        outputs: Tensor = self.last(F.relu(self.middle(F.relu(h))))
        return outputs


class SplitPrior(nn.Module):
    """A 3x3 convolution that starts at zero: from what goes on, the mean and scale of what a split factors out."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv = zeroed(nn.Conv2d(channels, outputs, 3, padding=1))

    def forward(self, context: Tensor, labels: Tensor | None) -> Tensor:
        outputs: Tensor = self.conv(context)
        return outputs


def glow_levels(data: DataSpec, config: FlowConfig, depth: int, transform: Callable[[int], Transform]) -> list[Level]:
    """`depth` levels of `steps` steps. What a split factors out, and what is left last, have learned Gaussian priors.

    Such a prior is a coupling too: with z2 ~ N(mean(z1), scale(z1)), it maps z2, given z1, to a standard normal.
    """
    channels, k = data.shape[0], data.num_classes
    levels = []
    for level in range(depth):
        total, last = 4 * channels, level == depth - 1
        context, target = range(total // 2), range(total // 2, total)
        layers: list[nn.Module] = []
        for _ in range(config.steps):
            kind = transform(0)
            network = GlowNetwork(len(context), len(target) * kind.parameters_each, config.width, k)
            layers += [ActNorm(total), InvertibleConv(total), Coupling(target, context, network, kind)]
        if last:
            prior = Coupling(range(total), [], Constant(2 * total, k), Affine())
        else:
            prior = Coupling(target, context, SplitPrior(len(context), 2 * len(target)), Affine())
        channels = total // 2
        levels.append(Level((2, 2), total, [] if last else context, [*layers, prior]))
    return levels
