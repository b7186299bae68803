"""The networks of BigGAN and BigGAN-deep, Brock et al. 2019 (appendix B): shared classes and hierarchical latents."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from genbench import DataSpec
from genbench_gan.networks import (
    Critic,
    Normed,
    NormReLU,
    Size,
    class_norms,
    normalised,
    pyramid,
    to_images,
    unchanged,
)
from genbench_gan.residual import DownBlock, UpBlock, halved
from genbench_gan.settings import GANConfig

Norms = Callable[[int], NormReLU]
"""Makes the normalisation of some channels."""


def levels(data: DataSpec, config: GANConfig) -> list[Size]:
    """Heights and widths of the feature maps, finest first; there are at least two levels, whatever the `base`."""
    (finest,) = pyramid(data.shape[1:], config.patch, max(data.shape[1:]))
    return pyramid(data.shape[1:], config.patch, max(1, min(config.base, max(finest) - 1)))


class Attention(nn.Module):
    """Each place of a feature map (B, C, H, W) looks at all others; what it sees is added with a gain, at first 0.

    Source: Zhang et al. 2019, with the sizes of Brock et al.: C/8 channels for queries and keys, C/2 for values; keys
    and values are maxima over 2x2 places.
    """

    def __init__(self, channels: int, normed: Normed) -> None:
        super().__init__()
        few, half = max(1, channels // 8), max(1, channels // 2)
        self.query, self.key = (normed(nn.Conv2d(channels, few, 1, bias=False)) for _ in range(2))
        self.value = normed(nn.Conv2d(channels, half, 1, bias=False))
        self.out = normed(nn.Conv2d(half, channels, 1, bias=False))
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        query = self.query(x).flatten(2)
        key, value = (F.max_pool2d(layer(x), 2, ceil_mode=True).flatten(2) for layer in (self.key, self.value))
        shares = (query.mT @ key).softmax(2)
        out: Tensor = x + self.gain * self.out((value @ shares.mT).unflatten(2, x.shape[2:]))
        return out


class Steering(nn.Module):
    """Scales and shifts, (B, 2 C), linear in a vector (B, `inputs`)."""

    def __init__(self, inputs: int, channels: int, normed: Normed) -> None:
        super().__init__()
        self.scale, self.shift = (normed(nn.Linear(inputs, channels, bias=False)) for _ in range(2))

    def forward(self, vector: Tensor) -> Tensor:
        return torch.cat([self.scale(vector), self.shift(vector)], 1)


def steered_norms(inputs: int, config: GANConfig, normed: Normed) -> Norms:
    """Makes normalisations that a vector (B, `inputs`) steers."""
    return lambda channels: NormReLU(channels, Steering(inputs, channels, normed), config.norm)


class DeepUpBlock(nn.Module):
    """1x1, 3x3, 3x3 and 1x1 convolutions, each after norm and ReLU, a quarter of the channels in between.

    With `double` the sides are doubled before the first 3x3. The skip connection leaves out the last channels.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Norms, normed: Normed, double: bool = False) -> None:
        super().__init__()
        few = max(1, in_channels // 4)
        self.doubles, self.out_channels = double, out_channels
        self.norms = nn.ModuleList([norm(in_channels), *(norm(few) for _ in range(3))])
        shapes = [(in_channels, few, 1), (few, few, 3), (few, few, 3), (few, out_channels, 1)]
        self.convs = nn.ModuleList(normed(nn.Conv2d(a, b, side, padding=side // 2)) for a, b, side in shapes)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        h = x
        for place, (norm, conv) in enumerate(zip(self.norms, self.convs)):
            h = norm(h, condition)
            h = conv(F.interpolate(h, scale_factor=2) if self.doubles and place == 1 else h)
        x = x[:, : self.out_channels]
        return h + (F.interpolate(x, scale_factor=2) if self.doubles else x)


class DeepDownBlock(nn.Module):
    """1x1, 3x3, 3x3 and 1x1 convolutions, each after a ReLU, a quarter of the channels in between.

    With `halve`, means of 2x2 come before the last one. The skip connection appends a 1x1 convolution's channels.
    """

    def __init__(self, in_channels: int, out_channels: int, halve: bool, normed: Normed) -> None:
        super().__init__()
        few, more = max(1, out_channels // 4), out_channels - in_channels
        self.halve = halve
        shapes = [(in_channels, few, 1), (few, few, 3), (few, few, 3), (few, out_channels, 1)]
        self.convs = nn.ModuleList(normed(nn.Conv2d(a, b, side, padding=side // 2)) for a, b, side in shapes)
        self.more = normed(nn.Conv2d(in_channels, more, 1)) if more > 0 else None

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for conv in self.convs[:-1]:
            h = conv(F.relu(h))
        h = F.relu(h)
        if self.halve:
            h, x = halved(h), halved(x)
        if self.more is not None:
            x = torch.cat([x, self.more(x)], 1)
        out: Tensor = self.convs[-1](h) + x
        return out


def generator_stage(
    in_channels: int, out_channels: int, norm: Norms, normed: Normed, config: GANConfig
) -> list[nn.Module]:
    """The blocks between a level and the next finer one; the last of them doubles the sides."""
    if config.network == "biggan":
        return [UpBlock(in_channels, out_channels, norm, normed)]
    same = [DeepUpBlock(in_channels, in_channels, norm, normed) for _ in range(config.depth - 1)]
    return [*same, DeepUpBlock(in_channels, out_channels, norm, normed, double=True)]


def critic_stage(in_channels: int, out_channels: int, halve: bool, first: bool, config: GANConfig) -> list[nn.Module]:
    """The blocks of a level; the first of them may `halve` the sides."""
    normed = normalised(config)
    if config.network == "biggan":
        return [DownBlock(in_channels, out_channels, halve, first, normed)]
    same = [DeepDownBlock(out_channels, out_channels, False, normed) for _ in range(config.depth - 1)]
    return [DeepDownBlock(in_channels, out_channels, halve, normed), *same]


class Stage(nn.ModuleList):
    """Blocks that one condition steers."""

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        for block in self:
            x = block(x, condition)
        return x


class HierarchicalGenerator(nn.Module):
    """Latents (B, latent), with labels (B,) if there are classes, to images (B, C, H, W) in (-1, 1).

    From the coarsest level on, each has a stage: one block, or `depth` in the deep network, the last of which doubles
    the sides, then attention if it is asked for. The normalisations of a stage are steered by the class embedding and,
    if `hierarchical`, by the stage's own part of the latent; the deep network shows the whole latent and the class to
    all stages and to the stem. Without embedding and hierarchy each normalisation has a table of classes. The last
    normalisation is steered by nothing.
    """

    def __init__(self, data: DataSpec, config: GANConfig) -> None:
        super().__init__()
        *finer, coarsest = levels(data, config)
        if beyond := [level for level in config.attention if level not in range(len(finer))]:
            there = f"it can be at levels 0 to {len(finer) - 1}" if finer else "there is one level alone, without it"
            raise ValueError(f"attention: not at level {beyond[0]}, for these images {there}")
        if config.hierarchical and config.latent <= len(finer):
            raise ValueError(f"latent: {config.latent} dimensions are too few for {len(finer) + 1} levels")
        self.size, self.patch, self.coarsest = data.shape[1:], config.patch, coarsest
        self.deep = config.network == "biggan_deep"
        self.parts = self.parts_of(config.latent, len(finer), config.hierarchical)
        first, *rest = (len(range(config.latent)[part]) for part in self.parts)
        normed = spectral_norm if config.generator_spectral_norm else unchanged
        shared = config.embedding if data.num_classes else 0
        self.steered = shared > 0 or config.hierarchical
        self.embed = nn.Embedding(data.num_classes, shared) if shared else None
        widths = [config.width * config.multiplier(level) for level in range(len(finer) + 1)]
        self.stem = normed(nn.Linear(first + shared * self.deep, widths[-1] * coarsest[0] * coarsest[1]))
        self.stages = nn.ModuleList()
        for level, own in zip(reversed(range(len(finer))), rest):
            norm = steered_norms(shared + own, config, normed) if self.steered else class_norms(data, config)
            blocks = generator_stage(widths[level + 1], widths[level], norm, normed, config)
            attends = [Attention(widths[level], normed)] if level in config.attention else []
            self.stages.append(Stage([*blocks, *attends]))
        self.norm = NormReLU(widths[0], None, config.norm)
        self.head = normed(nn.Conv2d(widths[0], data.shape[0] * config.patch**2, 3, padding=1))

    def parts_of(self, latent: int, stages: int, hierarchical: bool) -> list[slice]:
        """Which latent dimensions the stem sees, and each stage."""
        if not hierarchical:
            return [slice(latent), *[slice(0)] * stages]
        if self.deep:
            return [slice(latent)] * (stages + 1)
        cuts = [latent * part // (stages + 1) for part in range(stages + 2)]
        return [slice(*ends) for ends in pairwise(cuts)]

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        shared = [] if self.embed is None else [self.embed(labels)]
        first, *rest = (z[:, part] for part in self.parts)
        x = self.stem(torch.cat([*shared, first], 1) if self.deep else first).unflatten(1, (-1, *self.coarsest))
        for stage, own in zip(self.stages, rest):
            x = stage(x, torch.cat([*shared, own], 1) if self.steered else labels)
        return to_images(self.head(self.norm(x, None)), self.patch, self.size)


class HierarchicalCritic(Critic):
    """As many stages as the generator has levels, which halve the sides until none is above `critic_base`.

    The deep network begins with a convolution in place of a stage. Attention follows the stages that end at one of its
    levels. The head sees the sums over all positions.
    """

    def __init__(self, data: DataSpec, config: GANConfig) -> None:
        normed, sizes = normalised(config), levels(data, config)
        widths = [config.critic_width * config.multiplier(level) for level in range(len(sizes))]
        side, level, wide = max(sizes[0]), 0, data.shape[0] * config.patch**2
        layers: list[nn.Module] = []
        if config.network == "biggan_deep":
            layers.append(normed(nn.Conv2d(wide, widths[0], 3, padding=1)))
            wide = widths.pop(0)
        for place, wider in enumerate(widths):
            halve = side > config.critic_base
            layers += critic_stage(wide, wider, halve, place == 0, config)
            side, level, wide = (-(-side // 2), level + 1, wider) if halve else (side, level, wider)
            if level in config.attention:
                layers.append(Attention(wide, normed))
        super().__init__(data, config, [*layers, nn.ReLU()], wide, wide)

    def scored(self, features: Tensor, pooled: Tensor) -> Tensor:
        return pooled
