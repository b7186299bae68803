"""Generator and critic: what all have, and those of plain convolutions, Miyato et al. 2018 (tables 3a and 3b)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from genbench import Condition, DataSpec
from genbench.condition import Given, beside, hole_of
from genbench.nets import Upsample, folded, group_norm, resized, steered, unfolded, zeroed
from genbench_gan.settings import GANConfig

Size = tuple[int, int]
STEERING = 32
"""Channels between the maps of a condition and the scales and shifts that they decide."""
Normed = Callable[[nn.Module], nn.Module]
"""What is done to a layer's weights: division by their spectral norm, or nothing."""
unchanged: Normed = nn.Identity()


def pyramid(size: Size, patch: int, base: int) -> list[Size]:
    """Heights and widths of the feature maps, finest first: patches, then halved until no side is above `base`."""
    sizes = [(math.ceil(size[0] / patch), math.ceil(size[1] / patch))]
    while max(sizes[-1]) > base:
        sizes.append((math.ceil(sizes[-1][0] / 2), math.ceil(sizes[-1][1] / 2)))
    return sizes


def to_images(maps: Tensor, patch: int, size: Size) -> Tensor:
    """Images in (-1, 1) of the given size, from maps whose channels hold patches."""
    return unfolded(maps, patch, size).float().tanh()


def pasted(images: Tensor, given: Given) -> Tensor:
    """Images with what was shown in its place outside of the holes, if the condition has any.

    A critic would soon know images by what they change there, before the generator has learned to fill anything.
    Source: Iizuka et al. 2017.
    """
    hole = hole_of(given)
    return images if hole is None else images.where(hole, given["image"].to(images.dtype))


def projection(embed: nn.Module | None, pooled: Tensor, labels: Tensor | None) -> Tensor:
    """What the class adds to the scores, (B,): <embedding, features (B, C)> (Miyato & Koyama 2018, equation 4)."""
    if embed is None:
        return pooled.new_zeros(len(pooled))
    score: Tensor = (embed(labels) * pooled).sum(1)
    return score


class NormReLU(nn.Module):
    """Normalisation, a scale and a shift that a condition decides if `steer` maps it to them, (B, 2 C), and a ReLU.

    `norm` is "group", or "batch": batch statistics in training and fixed ones afterwards. Source: conditional
    normalisation as in Miyato & Koyama 2018, section 4.
    """

    def __init__(self, channels: int, steer: nn.Module | None, norm: str = "group") -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=steer is None) if norm == "batch" else group_norm(channels)
        self.steer = steer

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        if self.steer is None:
            return F.relu(self.norm(x))
        return F.relu(steered(self.norm, x, *self.steer(condition).chunk(2, dim=1)))


class SpatialNormReLU(NormReLU):
    """A `NormReLU` whose scales and shifts maps (B, `shown`, H, W) decide, at each place; all are zero at first.

    Source: spatially adaptive normalisation, Park et al. 2019, equation 1.
    """

    def __init__(self, channels: int, shown: int, norm: str = "group") -> None:
        super().__init__(channels, None, norm)
        last = zeroed(nn.Conv2d(STEERING, 2 * channels, 3, padding=1))
        self.maps = nn.Sequential(nn.Conv2d(shown, STEERING, 3, padding=1), nn.ReLU(), last)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        assert condition is not None
        scale, shift = self.maps(resized(condition, (x.shape[2], x.shape[3]))).chunk(2, dim=1)
        return F.relu(self.norm(x) * (1 + scale) + shift)


def class_norms(data: DataSpec, config: GANConfig) -> Callable[[int], NormReLU]:
    """Makes the `NormReLU` of some channels; with classes, each has a table of scales and shifts, all zero at first."""

    def norm(channels: int) -> NormReLU:
        if data.shown:
            return SpatialNormReLU(channels, data.shown, config.norm)
        if not data.num_classes:
            return NormReLU(channels, None, config.norm)
        table = nn.Embedding(data.num_classes, 2 * channels)
        nn.init.zeros_(table.weight)
        return NormReLU(channels, table, config.norm)

    return norm


class Pixels(nn.Module):
    """Feature maps of patches to maps at full resolution, beside those of a condition, if `shown`."""

    def __init__(self, in_channels: int, detail: int, patch: int, shown: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, detail * patch**2, 3, padding=1)
        self.patch, self.shown = patch, shown

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        x = F.leaky_relu(F.pixel_shuffle(self.conv(x), self.patch), 0.1)
        return torch.cat([x, condition], 1) if self.shown and condition is not None else x


class Conv(nn.Conv2d):
    """A convolution that labels have no effect on."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(x)


class Doubling(nn.ConvTranspose2d):
    """A transposed convolution that doubles the sides; labels have no effect on it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class Generator(nn.Module, ABC):
    """Latents (B, latent), with labels (B,) if there are classes, to images (B, C, H, W) in (-1, 1).

    A linear map makes the coarsest feature maps; a subclass grows them; the head writes patches of `patch` x `patch`
    pixels. Any excess is cropped. The class enters through the normalisations: a generator that is given it next
    to the latent tends to ignore the latent.
    """

    head: nn.Module

    def __init__(self, data: DataSpec, config: GANConfig, coarsest: Size, width: int) -> None:
        super().__init__()
        self.size, self.patch, self.coarsest = data.shape[1:], config.patch, coarsest
        self.stem = nn.Linear(config.latent, width * math.prod(coarsest))

    @abstractmethod
    def grow(self, x: Tensor, given: Given) -> Tensor:
        """The coarsest feature maps to the finest, (B, C, h, w) each."""

    def forward(self, z: Tensor, given: Given = None) -> Tensor:
        x = self.grow(self.stem(z).unflatten(1, (-1, *self.coarsest)), given)
        return pasted(to_images(self.head(x), self.patch, self.size), given)


class ConvGenerator(Generator):
    """Each level doubles the sides and halves the channels, down to `width`, with `depth - 1` more convolutions.

    Every layer but the last is followed by `norm` and a ReLU. With `detail` the patches have so many channels, and a
    last convolution at full resolution makes pixels of them, which sees across the edges of patches.
    """

    def __init__(self, data: DataSpec, config: GANConfig) -> None:
        sizes = pyramid(data.shape[1:], config.patch, config.base)
        widths = [config.width * 2**level for level in reversed(range(len(sizes)))]
        super().__init__(data, config, sizes[-1], widths[0])
        self.extent = tuple(side * config.patch * 2 ** (len(sizes) - 1) for side in sizes[-1])
        norm, double = class_norms(data, config), {"nearest": Upsample, "transposed": Doubling}[config.upsampling]
        self.layers = nn.ModuleList()
        for above, wide in zip([0, *widths], widths):
            if above:
                self.layers.append(double(above, wide))
            for _ in range(config.depth - 1):
                self.layers += [norm(wide), Conv(wide, wide, 3, padding=1)]
            self.layers.append(norm(wide))
        if config.detail:
            self.layers.append(Pixels(config.width, config.detail, config.patch, data.shown))
            self.head = nn.Conv2d(config.detail + data.shown, data.shape[0], 3, padding=1)
            self.patch = 1
        else:
            self.head = nn.Conv2d(config.width, data.shape[0] * config.patch**2, 3, padding=1)

    def grow(self, x: Tensor, given: Given) -> Tensor:
        if isinstance(given, Condition):
            (height, width), (tall, wide) = self.size, self.extent  # feature maps stand for what will be cropped too
            given = F.pad(given.maps(self.size), (0, wide - width, 0, tall - height), mode="replicate")
        for layer in self.layers:
            x = layer(x, given)
        return x


def normalised(config: GANConfig) -> Normed:
    """Divides a layer's weights by their spectral norm, if that is asked for (Miyato et al. 2018, algorithm 1)."""
    return spectral_norm if config.spectral_norm else unchanged


class Critic(nn.Module, ABC):
    """Images (B, C, H, W), with what they are given, to scores (B,).

    Maps of a condition stand beside the images. The head scores `inputs` numbers of what `features` makes of the
    patches, (B, `channels`, h, w), of images padded until `multiple` divides their sides. The class enters by
    `projection` of the features, summed over all positions. The score of an image depends on no other image of the
    batch if it is `separate`.
    """

    separate: ClassVar[bool] = True

    def __init__(
        self,
        data: DataSpec,
        config: GANConfig,
        features: list[nn.Module],
        inputs: int,
        channels: int,
        multiple: int = 1,
    ) -> None:
        super().__init__()
        normed, classes = normalised(config), data.num_classes
        self.patch, self.multiple = config.patch, multiple
        self.features = nn.Sequential(*features)
        self.head = normed(nn.Linear(inputs, 1))
        self.embed = normed(nn.Embedding(classes, channels)) if classes else None

    @abstractmethod
    def scored(self, features: Tensor, pooled: Tensor) -> Tensor:
        """What the head sees, (B, inputs), of the features and of their sums over all positions, (B, channels)."""

    def forward(self, images: Tensor, given: Given = None) -> Tensor:
        images, labels = beside(images, given, images.shape[2:])
        features = self.features(folded(images, self.patch, self.multiple))
        pooled = features.float().sum((2, 3))
        scores: Tensor = self.head(self.scored(features, pooled)).squeeze(1).float()
        return scores + projection(self.embed, pooled, labels)


class Leaky(nn.Module):
    """A leaky ReLU, `gained` so that what passes keeps its mean square (He et al. 2015).

    Behind layers of spectral norm 1, which enlarge nothing, scores of similar images would otherwise hardly differ.
    """

    slope = 0.1

    def __init__(self, gained: bool) -> None:
        super().__init__()
        self.gain = nn.init.calculate_gain("leaky_relu", self.slope) if gained else 1.0

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.slope) * self.gain


class ConvCritic(Critic):
    """`depth` convolutions a level, the first of which doubles the channels, and one of stride 2 between levels.

    The head sees all features. Images are padded so that every halving is whole.
    """

    def __init__(self, data: DataSpec, config: GANConfig) -> None:
        normed = normalised(config)
        sizes = pyramid(data.shape[1:], config.patch, config.base)
        layers: list[nn.Module] = []
        wide = (data.shape[0] + data.shown) * config.patch**2
        for level in range(len(sizes)):
            if level:
                layers += [normed(nn.Conv2d(wide, wide, 4, 2, 1)), Leaky(config.critic_gain)]
            for _ in range(config.depth):
                wider = config.critic_width * 2**level
                layers += [normed(nn.Conv2d(wide, wider, 3, padding=1)), Leaky(config.critic_gain)]
                wide = wider
        multiple = config.patch * 2 ** (len(sizes) - 1)
        super().__init__(data, config, layers, wide * math.prod(sizes[-1]), wide, multiple)

    def scored(self, features: Tensor, pooled: Tensor) -> Tensor:
        return features.flatten(1)
