"""The networks of energies: strided, residual as in Du & Mordatch 2019, and wide as in Grathwohl et al. 2020."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from genbench import DataSpec
from genbench.nets import folded, pad_to_multiple
from genbench_energy.settings import EBMConfig, JEMConfig

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {"silu": F.silu, "leaky_relu": lambda x: F.leaky_relu(x, 0.2)}


class OfClass(nn.Module):
    """A vector of `channels` numbers for each class, or one without classes, that all start at `start`."""

    def __init__(self, channels: int, num_classes: int, start: float) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.full((max(1, num_classes), channels), start))

    def forward(self, labels: Tensor | None) -> Tensor:
        rows = self.table if labels is None else self.table[labels]
        return rows[:, :, None, None]


class ResidualBlock(nn.Module):
    """Bias, convolution, activation, bias, convolution, gain; their sum with the input is halved, then activated.

    Biases and gains are those of the class. The gain starts at zero, and with it the branch. Where channels change, the
    input passes a 3x3 convolution. Halving takes means of 2x2 places, of fewer at the end of an odd side. Source: Du &
    Mordatch 2019 and the authors' code.
    """

    def __init__(self, in_channels: int, out_channels: int, halve: bool, num_classes: int, config: EBMConfig) -> None:
        super().__init__()
        self.halve, self.activation, self.dropout = halve, ACTIVATIONS[config.activation], nn.Dropout(config.dropout)
        self.bias1, self.bias2 = (OfClass(channels, num_classes, 0.0) for channels in (in_channels, out_channels))
        self.gain = OfClass(out_channels, num_classes, 0.0)
        self.conv1, self.conv2 = (
            convolution(channels, out_channels, config) for channels in (in_channels, out_channels)
        )
        changes = in_channels != out_channels
        self.skip = convolution(in_channels, out_channels, config) if changes else nn.Identity()

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        h = self.activation(self.dropout(self.conv1(x + self.bias1(labels))))
        h = self.skip(x) + self.gain(labels) * self.conv2(h + self.bias2(labels))
        return self.activation(F.avg_pool2d(h, 2, ceil_mode=True) if self.halve else h)


def convolution(in_channels: int, out_channels: int, config: EBMConfig) -> nn.Module:
    """A 3x3 convolution without a bias, divided by its spectral norm if that is asked for."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return spectral_norm(conv) if config.spectral_norm else conv


class ResNet(nn.Module):
    """Images (B, C, H, W), with labels (B,) if there are classes, to numbers (B, outputs).

    Each of the `widths` has `blocks` residual blocks, the first of which halves the sides. The head sees sums over all
    positions.
    """

    def __init__(self, data: DataSpec, config: EBMConfig, outputs: int) -> None:
        super().__init__()
        self.patch, self.activation = config.patch, ACTIVATIONS[config.activation]
        width = config.stem or config.widths[0]
        self.stem = convolution(data.shape[0] * config.patch**2, width, config)
        self.blocks = nn.ModuleList()
        for wide in config.widths:
            for index in range(config.blocks):
                self.blocks.append(ResidualBlock(width, wide, index == 0, data.num_classes, config))
                width = wide
        self.head = nn.Linear(width, outputs)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        x = self.activation(self.stem(folded(images, self.patch)))
        for block in self.blocks:
            x = block(x, labels)
        out: Tensor = self.head(F.relu(x).sum((2, 3)))
        return out


class StridedNet(nn.Module):
    """Images (B, C, H, W), with labels (B,) if there are classes, to numbers (B, 1): that of the class, if any.

    A 3x3 convolution to the first of the `widths`, a 4x4 convolution that halves the sides to each of the others. The
    head sees sums over all positions. Source: the critic of Radford et al. 2016, without its normalisation.
    """

    def __init__(self, data: DataSpec, config: EBMConfig) -> None:
        super().__init__()
        self.patch, self.activation = config.patch, ACTIVATIONS[config.activation]
        convolutions = [nn.Conv2d(data.shape[0] * config.patch**2, config.widths[0], 3, padding=1)]
        convolutions += [nn.Conv2d(wide, wider, 4, stride=2, padding=1) for wide, wider in pairwise(config.widths)]
        self.convolutions = nn.ModuleList(convolutions)
        self.head = nn.Linear(config.widths[-1], max(1, data.num_classes))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        x = folded(images, self.patch)
        for index, convolution in enumerate(self.convolutions):
            x = self.activation(convolution(pad_to_multiple(x, 2) if index else x))
        out: Tensor = self.head(x.sum((2, 3)))
        return out if labels is None else out.gather(1, labels[:, None])


class WideBlock(nn.Module):
    """Activation, convolution, activation, convolution, which halves the sides if asked to; 1x1 where that changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, config: JEMConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride, padding=1)
        changes = stride > 1 or in_channels != out_channels
        self.skip = nn.Conv2d(in_channels, out_channels, 1, stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(self.activation(self.conv1(self.activation(x))))
        out: Tensor = self.skip(x) + h
        return out


class WideResNet(nn.Module):
    """Images (B, C, H, W) to logits (B, outputs): pre-activation blocks without any normalisation.

    Each of the `widths` has `blocks` blocks; the first halves the sides, but not at the first width. The head sees
    means over all positions. Source: Zagoruyko & Komodakis 2016; Grathwohl et al. 2020.
    """

    def __init__(self, data: DataSpec, config: JEMConfig, outputs: int) -> None:
        super().__init__()
        self.patch, self.activation = config.patch, ACTIVATIONS[config.activation]
        width = config.stem or config.widths[0]
        self.stem = nn.Conv2d(data.shape[0] * config.patch**2, width, 3, padding=1)
        blocks: list[nn.Module] = []
        for level, wide in enumerate(config.widths):
            for index in range(config.blocks):
                blocks.append(WideBlock(width, wide, 2 if level and not index else 1, config))
                width = wide
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width, outputs)

    def forward(self, images: Tensor) -> Tensor:
        x = self.activation(self.blocks(self.stem(folded(images, self.patch))))
        out: Tensor = self.head(x.mean((2, 3)))
        return out
