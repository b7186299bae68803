"""Generator and critic: plain convolutions, as in the standard networks of Miyato et al. 2018 (tables 3a and 3b)."""

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from genbench.nets import group_norm, pad_to_multiple

Size = tuple[int, int]


def pyramid(size: Size, patch: int, base: int) -> list[Size]:
    """Heights and widths of the feature maps, finest first: patches, then halves until no side is above `base`."""
    sizes = [(math.ceil(size[0] / patch), math.ceil(size[1] / patch))]
    while max(sizes[-1]) > base:
        sizes.append((math.ceil(sizes[-1][0] / 2), math.ceil(sizes[-1][1] / 2)))
    return sizes


def to_images(maps: Tensor, patch: int, size: Size) -> Tensor:
    """Images in (-1, 1) of the given size, from maps whose channels hold patches; what is too large is cropped."""
    return F.pixel_shuffle(maps, patch)[..., : size[0], : size[1]].float().tanh()


def projection(embed: nn.Module | None, pooled: Tensor, labels: Tensor | None) -> Tensor:
    """What the class adds to the scores, (B,): <embedding, features (B, C)> (Miyato & Koyama 2018, equation 4)."""
    if embed is None:
        return pooled.new_zeros(len(pooled))
    score: Tensor = (embed(labels) * pooled).sum(1)
    return score


class NormReLU(nn.Module):
    """Normalisation, a scale and a shift by class embedding if there are classes, and a ReLU.

    `norm` is "group", or "batch": the statistics of the batch in training and their running averages after it.
    Source: conditional normalisation as in Miyato & Koyama 2018, section 4; it starts as if there were no classes.
    """

    def __init__(self, channels: int, num_classes: int, norm: str = "group") -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=not num_classes) if norm == "batch" else group_norm(channels)
        self.embed = nn.Embedding(num_classes, 2 * channels) if num_classes else None
        if self.embed is not None:
            nn.init.zeros_(self.embed.weight)

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        x = self.norm(x)
        if self.embed is not None:
            scale, shift = self.embed(labels)[:, :, None, None].chunk(2, dim=1)
            x = x * (1 + scale) + shift
        return F.relu(x)


class Generator(nn.Module):
    """Latents (B, latent), with labels (B,) if there are classes, to images (B, C, H, W) in (-1, 1).

    The coarsest map is a linear function of the latent; the class enters by the normalisations, since a generator that
    gets it beside the latent tends to ignore the latent. Each level doubles the sides and halves the channels, down to
    `width`; the last one writes patches of `patch` x `patch` pixels. `depth - 1` convolutions a level. What is too
    large is cropped. Every layer but the last is followed by `norm` and a ReLU.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent: int,
        width: int,
        patch: int,
        base: int,
        depth: int,
        num_classes: int,
        norm: str = "group",
    ) -> None:
        super().__init__()
        channels, *size = shape
        self.size, self.patch = (size[0], size[1]), patch
        sizes = pyramid(self.size, patch, base)
        self.coarsest = sizes[-1]
        widths = [width * 2**level for level in reversed(range(len(sizes)))]
        self.stem = nn.Linear(latent, widths[0] * math.prod(self.coarsest))
        self.layers = nn.ModuleList()
        for above, wide in zip([0, *widths], widths):
            if above:
                self.layers.append(nn.ConvTranspose2d(above, wide, 4, 2, 1))
            for _ in range(depth - 1):
                self.layers += [NormReLU(wide, num_classes, norm), nn.Conv2d(wide, wide, 3, padding=1)]
            self.layers.append(NormReLU(wide, num_classes, norm))
        self.head = nn.Conv2d(width, channels * patch**2, 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        x = self.stem(z).unflatten(1, (-1, *self.coarsest))
        for layer in self.layers:
            x = layer(x, labels) if isinstance(layer, NormReLU) else layer(x)
        return to_images(self.head(x), self.patch, self.size)


class Critic(nn.Module):
    """Images (B, C, H, W), with labels (B,) if there are classes, to scores (B,).

    `depth` convolutions a level, of which the first doubles the channels, and one of stride 2 between levels. The class
    enters by `projection` of the features, summed over all places. With `spectral` every weight is divided by its
    spectral norm (Miyato et al. 2018, algorithm 1).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int,
        patch: int,
        base: int,
        depth: int,
        num_classes: int,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        normed: Callable[[nn.Module], nn.Module] = spectral_norm if spectral else nn.Identity()
        channels, *size = shape
        self.patch = patch
        sizes = pyramid((size[0], size[1]), patch, base)
        layers: list[nn.Module] = []
        wide = channels * patch**2
        for level in range(len(sizes)):
            if level:
                layers += [normed(nn.Conv2d(wide, wide, 4, 2, 1)), nn.LeakyReLU(0.1)]
            for _ in range(depth):
                layers += [normed(nn.Conv2d(wide, width * 2**level, 3, padding=1)), nn.LeakyReLU(0.1)]
                wide = width * 2**level
        self.features = nn.Sequential(*layers)
        count = wide * math.prod(side >> (len(sizes) - 1) for side in sizes[0])
        self.head = normed(nn.Linear(count, 1))
        self.embed = normed(nn.Embedding(num_classes, wide)) if num_classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.features(F.pixel_unshuffle(pad_to_multiple(images, self.patch), self.patch))
        scores: Tensor = self.head(features.flatten(1)).squeeze(1).float()
        return scores + projection(self.embed, features.float().sum((2, 3)), labels)
