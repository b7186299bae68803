"""Generator and critic of residual blocks, as in the networks of Miyato et al. 2018 (tables 4a and 4b, figure 8)."""

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from genbench.nets import pad_to_multiple
from genbench_gan.networks import NormReLU, projection, pyramid, to_images


class UpBlock(nn.Module):
    """Norm, ReLU, sides doubled, convolution, norm, ReLU, convolution; beside them a 1x1 convolution, doubled."""

    def __init__(self, channels: int, num_classes: int, norm: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = (NormReLU(channels, num_classes, norm) for _ in range(2))
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.skip = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        h = self.conv1(F.interpolate(self.norm1(x, labels), scale_factor=2))
        h = self.conv2(self.norm2(h, labels))
        out: Tensor = F.interpolate(self.skip(x), scale_factor=2) + h
        return out


class DownBlock(nn.Module):
    """ReLU, convolution, ReLU, convolution and, with `halve`, means of 2x2; beside them the same of a 1x1 convolution.

    The `first` block has no ReLU before its convolution, which sees pixels. A block that changes neither channels nor
    sides adds its input as it is.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        halve: bool,
        first: bool,
        normed: Callable[[nn.Module], nn.Module],
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
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)  # before the 1x1 convolution it costs a quarter
        out: Tensor = self.skip(x) + h
        return out


class ResidualGenerator(nn.Module):
    """Latents (B, latent), with labels (B,) if there are classes, to images (B, C, H, W) in (-1, 1).

    A linear map to a coarsest map with no side above `base`, an `UpBlock` for every doubling, all of `width` channels,
    and a convolution that writes patches. What is too large is cropped. The class enters by the norms.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent: int,
        width: int,
        patch: int,
        base: int,
        num_classes: int,
        norm: str,
    ) -> None:
        super().__init__()
        channels, *size = shape
        self.size, self.patch = (size[0], size[1]), patch
        *finer, self.coarsest = pyramid(self.size, patch, base)
        self.stem = nn.Linear(latent, width * math.prod(self.coarsest))
        self.blocks = nn.ModuleList(UpBlock(width, num_classes, norm) for _ in finer)
        self.norm = NormReLU(width, num_classes, norm)
        self.head = nn.Conv2d(width, channels * patch**2, 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        x = self.stem(z).unflatten(1, (-1, *self.coarsest))
        for block in self.blocks:
            x = block(x, labels)
        return to_images(self.head(self.norm(x, labels)), self.patch, self.size)


class ResidualCritic(nn.Module):
    """Images (B, C, H, W), with labels (B,) if there are classes, to scores (B,).

    Sides are halved, a `DownBlock` each, until none is above twice the generator's `base`; `depth` blocks follow, then
    the sum over all places, and from it the score and the `projection` of the class.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int,
        patch: int,
        base: int,
        depth: int,
        num_classes: int,
        spectral: bool,
    ) -> None:
        super().__init__()
        normed: Callable[[nn.Module], nn.Module] = spectral_norm if spectral else nn.Identity()
        channels, *size = shape
        self.patch = patch
        halvings = len(pyramid((size[0], size[1]), patch, 2 * base)) - 1
        halve = [True] * halvings + [False] * depth
        wide = [channels * patch**2, *[width] * len(halve)]
        blocks = [DownBlock(wide[i], width, half, i == 0, normed) for i, half in enumerate(halve)]
        self.features = nn.Sequential(*blocks, nn.ReLU())
        self.head = normed(nn.Linear(width, 1))
        self.embed = normed(nn.Embedding(num_classes, width)) if num_classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.features(F.pixel_unshuffle(pad_to_multiple(images, self.patch), self.patch))
        pooled = features.float().sum((2, 3))
        scores: Tensor = self.head(pooled).squeeze(1).float()
        return scores + projection(self.embed, pooled, labels)
