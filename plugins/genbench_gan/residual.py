"""Generator and critic of residual blocks, as in the networks of Miyato et al. 2018 (tables 4a and 4b, figure 8)."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from genbench import DataSpec
from genbench_gan.networks import Critic, Generator, Normed, NormReLU, class_norms, normalised, pyramid, unchanged
from genbench_gan.settings import GANConfig


def halved(x: Tensor) -> Tensor:
    """Means over 2x2 places of feature maps (B, C, H, W), over fewer at the end of an odd side."""
    return F.avg_pool2d(x, 2, ceil_mode=True)


class UpBlock(nn.Module):
    """Norm, ReLU, doubled sides, convolution, norm, ReLU, convolution; in parallel, a 1x1 convolution, doubled."""

    def __init__(
        self, in_channels: int, out_channels: int, norm: Callable[[int], NormReLU], normed: Normed = unchanged
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(in_channels), norm(out_channels)
        self.conv1 = normed(nn.Conv2d(in_channels, out_channels, 3, padding=1))
        self.conv2 = normed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = normed(nn.Conv2d(in_channels, out_channels, 1))

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        h = self.conv1(F.interpolate(self.norm1(x, condition), scale_factor=2))
        h = self.conv2(self.norm2(h, condition))
        out: Tensor = F.interpolate(self.skip(x), scale_factor=2) + h
        return out


class DownBlock(nn.Module):
    """ReLU, convolution, ReLU, convolution and, with `halve`, means of 2x2; in parallel, a 1x1 convolution, halved too.

    The `first` block has no ReLU before its convolution, which sees pixels. A block that changes neither channels nor
    sides adds its input as it is.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        halve: bool,
        first: bool,
        normed: Normed,
    ) -> None:
        super().__init__()
        self.halve, self.first = halve, first
        self.conv1 = normed(nn.Conv2d(in_channels, out_channels, 3, padding=1))
        self.conv2 = normed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        changes = halve or in_channels != out_channels
        self.skip = normed(nn.Conv2d(in_channels, out_channels, 1)) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if self.halve:
            h, x = halved(h), halved(x)  # before the 1x1 convolution, which then costs a quarter
        out: Tensor = self.skip(x) + h
        return out


class ResidualGenerator(Generator):
    """An `UpBlock` for every doubling, all of `width` channels; the last is followed by `norm` and a ReLU."""

    def __init__(self, data: DataSpec, config: GANConfig) -> None:
        *finer, coarsest = pyramid(data.shape[1:], config.patch, config.base)
        super().__init__(data, config, coarsest, config.width)
        norm = class_norms(data, config)
        self.blocks = nn.ModuleList(UpBlock(config.width, config.width, norm) for _ in finer)
        self.norm = norm(config.width)
        self.head = nn.Conv2d(config.width, data.shape[0] * config.patch**2, 3, padding=1)

    def grow(self, x: Tensor, labels: Tensor | None) -> Tensor:
        for block in self.blocks:
            x = block(x, labels)
        out: Tensor = self.norm(x, labels)
        return out


class ResidualCritic(Critic):
    """Sides are halved, a `DownBlock` each, until none is above twice the generator's `base`; `depth` blocks follow.

    The head sees the sums over all positions.
    """

    def __init__(self, data: DataSpec, config: GANConfig) -> None:
        normed, width = normalised(config), config.critic_width
        halvings = len(pyramid(data.shape[1:], config.patch, 2 * config.base)) - 1
        halve = [True] * halvings + [False] * config.depth
        wide = [data.shape[0] * config.patch**2, *[width] * len(halve)]
        blocks = [DownBlock(wide[i], width, half, i == 0, normed) for i, half in enumerate(halve)]
        super().__init__(data, config, [*blocks, nn.ReLU()], width, width)

    def scored(self, features: Tensor, pooled: Tensor) -> Tensor:
        return pooled
