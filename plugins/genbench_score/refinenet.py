"""The networks of NCSN and NCSNv2: RefineNets (Lin et al. 2017) with dilated convolutions and no loss of resolution.

Sources: Song & Ermon 2019, appendix A; Song & Ermon 2020, appendix B. `width` is their ngf. Feature maps are
(B, C, h, w); a `row`, int64 (B,), chooses the parameters of each image's normalisations: by its noise level, its class,
or both.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.nets import pad_to_multiple


class InstanceNormPlus(nn.Module):
    """Instance normalisation that keeps the channels' means, relative to each other: CondInstanceNorm++ of NCSN.

    Each row of the table has a gain, a weight of the means and a bias per channel. One row makes it unconditional.
    Source: Song & Ermon 2019, appendix A.1.
    """

    def __init__(self, channels: int, rows: int) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, 3 * channels)
        nn.init.normal_(self.table.weight, 1.0, 0.02)
        nn.init.zeros_(self.table.weight[:, 2 * channels :])

    def forward(self, x: Tensor, row: Tensor) -> Tensor:
        gain, weight, bias = self.table(row)[:, :, None, None].chunk(3, dim=1)
        means = x.mean((2, 3), keepdim=True)
        means = (means - means.mean(1, keepdim=True)) / (means.var(1, keepdim=True) + 1e-5).sqrt()
        out: Tensor = gain * (F.instance_norm(x) + weight * means) + bias
        return out


class Unnormalised(nn.Module):
    """No normalisation."""

    def forward(self, x: Tensor, row: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class RefineNetSpec:
    """The settings of a `RefineNet`: `rows` of its normalisations, and whether its refining blocks are as in NCSN.

    Those of NCSN normalise before every convolution and pool by averages; those of NCSNv2 do not, and pool by maxima.
    """

    channels: int
    width: int
    rows: int
    first_version: bool

    def norm(self, channels: int) -> nn.Module:
        """The normalisation within refining blocks."""
        return InstanceNormPlus(channels, self.rows) if self.first_version else Unnormalised()

    def pool(self, x: Tensor) -> Tensor:
        """Each pixel's neighbourhood of 5x5."""
        return F.avg_pool2d(x, 5, 1, 2) if self.first_version else F.max_pool2d(x, 5, 1, 2)


def conv(in_channels: int, out_channels: int, dilation: int = 1, bias: bool = True) -> nn.Conv2d:
    """A 3x3 convolution that keeps the sides."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=bias)


class ResidualBlock(nn.Module):
    """Twice normalisation, ELU, convolution, and a shortcut.

    The block that `enters` a stage changes the channels and has a convolution in its shortcut. Without dilation it then
    halves the sides, by averages of 2x2 after its last convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, rows: int, dilation: int = 1, enters: bool = False) -> None:
        super().__init__()
        self.halves = enters and dilation == 1
        self.norm1, self.norm2 = InstanceNormPlus(in_channels, rows), InstanceNormPlus(in_channels, rows)
        self.conv1 = conv(in_channels, in_channels, dilation)
        self.conv2 = conv(in_channels, out_channels, dilation)
        self.shortcut: nn.Module = nn.Identity()
        if enters:
            pointwise = nn.Conv2d(in_channels, out_channels, 1)
            self.shortcut = pointwise if self.halves else conv(in_channels, out_channels, dilation)

    def forward(self, x: Tensor, row: Tensor) -> Tensor:
        h = self.conv1(F.elu(self.norm1(x, row)))
        h = self.conv2(F.elu(self.norm2(h, row)))
        if self.halves:
            x, h = F.avg_pool2d(x, 2), F.avg_pool2d(h, 2)
        out: Tensor = self.shortcut(x) + h
        return out


class ConvUnits(nn.Module):
    """`count` residual convolution units of two convolutions each, without biases."""

    def __init__(self, channels: int, count: int, spec: RefineNetSpec) -> None:
        super().__init__()
        self.norms = nn.ModuleList(spec.norm(channels) for _ in range(2 * count))
        self.convs = nn.ModuleList(conv(channels, channels, bias=False) for _ in range(2 * count))

    def forward(self, x: Tensor, row: Tensor) -> Tensor:
        h = x
        for place, (norm, layer) in enumerate(zip(self.norms, self.convs)):
            h = layer(F.elu(norm(h, row)))
            if place % 2:
                h = x = x + h
        return x


class Fusion(nn.Module):
    """The sum of feature maps of several resolutions, brought to one size and number of channels."""

    def __init__(self, inputs: tuple[int, ...], channels: int, spec: RefineNetSpec) -> None:
        super().__init__()
        self.norms = nn.ModuleList(spec.norm(wide) for wide in inputs)
        self.convs = nn.ModuleList(conv(wide, channels) for wide in inputs)

    def forward(self, maps: list[Tensor], row: Tensor) -> Tensor:
        size = maps[0].shape[-2:]
        total = torch.zeros((), device=row.device)
        for norm, layer, x in zip(self.norms, self.convs, maps):
            x = layer(norm(x, row))
            total = total + (x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=True))
        return total


class ChainedPooling(nn.Module):
    """Adds what two poolings, one after the other and each followed by a convolution, see of ever larger regions."""

    def __init__(self, channels: int, spec: RefineNetSpec) -> None:
        super().__init__()
        self.pool = spec.pool
        self.norms = nn.ModuleList(spec.norm(channels) for _ in range(2))
        self.convs = nn.ModuleList(conv(channels, channels, bias=False) for _ in range(2))

    def forward(self, x: Tensor, row: Tensor) -> Tensor:
        x = path = F.elu(x)
        for norm, layer in zip(self.norms, self.convs):
            path = layer(self.pool(norm(path, row)))
            x = x + path
        return x


class RefineBlock(nn.Module):
    """Units for each of the feature maps, their fusion if they are several, chained pooling, and units again.

    `inputs` are the channels of the maps, the finest first, whose size the result has.
    """

    def __init__(self, inputs: tuple[int, ...], channels: int, spec: RefineNetSpec, last: bool = False) -> None:
        super().__init__()
        self.adapt = nn.ModuleList(ConvUnits(wide, 2, spec) for wide in inputs)
        self.fusion = Fusion(inputs, channels, spec) if len(inputs) > 1 else None
        self.pooling = ChainedPooling(channels, spec)
        self.out = ConvUnits(channels, 3 if last else 1, spec)

    def forward(self, maps: list[Tensor], row: Tensor) -> Tensor:
        adapted = [units(x, row) for units, x in zip(self.adapt, maps)]
        x = adapted[0] if self.fusion is None else self.fusion(adapted, row)
        out: Tensor = self.out(self.pooling(x, row), row)
        return out


class RefineNet(nn.Module):
    """Images (B, C, H, W) in [-1, 1], with noise, and rows (B,), to (B, C, H, W)."""

    def __init__(self, spec: RefineNetSpec) -> None:
        super().__init__()
        width, wide, rows = spec.width, 2 * spec.width, spec.rows
        self.stem = conv(spec.channels, width)
        self.blocks = nn.ModuleList([
            ResidualBlock(width, width, rows), ResidualBlock(width, width, rows),
            ResidualBlock(width, wide, rows, enters=True), ResidualBlock(wide, wide, rows),
            ResidualBlock(wide, wide, rows, 2, enters=True), ResidualBlock(wide, wide, rows, 2),
            ResidualBlock(wide, wide, rows, 4, enters=True), ResidualBlock(wide, wide, rows, 4),
        ])  # fmt: skip
        self.refine = nn.ModuleList([
            RefineBlock((wide,), wide, spec),
            RefineBlock((wide, wide), wide, spec),
            RefineBlock((wide, wide), width, spec),
            RefineBlock((width, width), width, spec, last=True),
        ])  # fmt: skip
        self.norm = InstanceNormPlus(width, rows)
        self.head = conv(width, spec.channels)

    def forward(self, images: Tensor, row: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        x = self.stem(pad_to_multiple(images, 2))
        maps: list[Tensor] = []
        for place, block in enumerate(self.blocks):
            x = block(x, row)
            if place % 2:
                maps.append(x)
        refined: list[Tensor] = []
        for refine in self.refine:
            refined = [refine([maps.pop(), *refined], row)]
        out: Tensor = self.head(F.elu(self.norm(refined[0], row)))
        return out[..., :height, :width]
