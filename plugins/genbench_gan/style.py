"""StyleGAN2's networks (Karras et al. 2020a): a mapping, a synthesis that its w's modulate, and a residual critic."""

import math
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench import DataSpec
from genbench.nets import folded, unfolded
from genbench_gan.networks import pyramid
from genbench_gan.settings import GANConfig


def activated(x: Tensor) -> Tensor:
    """A leaky ReLU, scaled so that it keeps the mean square of what is normal, nearly."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def unit(x: Tensor) -> Tensor:
    """Vectors (B, C), scaled until the mean of their squares is 1."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def widths(finest: int, levels: int, widest: int) -> list[int]:
    """Channels by level, finest first: doubled with every halving of the sides, up to `widest`."""
    return [min(finest * 2**level, widest) for level in range(levels)]


class Scaled(nn.Module):
    """A layer whose weights are standard normal and are scaled when used, so that all layers learn equally fast.

    `fan_in` is the number of inputs that a number is made of; the weights move at `rate` times the speed of others'.
    Source: Karras et al. 2018, section 4.1.
    """

    def __init__(self, shape: tuple[int, ...], fan_in: int, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape) / rate)
        self.scale = rate / math.sqrt(fan_in)


def unscaled(network: nn.Module) -> None:
    """Let each layer have its scale in its weights from the start, which then learn like any others."""
    for layer in network.modules():
        if isinstance(layer, Scaled):
            layer.weight.data.mul_(layer.scale)
            layer.scale = 1.0


class Linear(Scaled):
    """A dense layer, of which `rate` holds for the bias too."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__((outputs, inputs), inputs, rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class Conv(Scaled):
    """A convolution that keeps the sides, or filters and halves them."""

    def __init__(self, inputs: int, outputs: int, side: int, halve: bool = False, bias: bool = True) -> None:
        super().__init__((outputs, inputs, side, side), inputs * side**2)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.blur = Blur(side // 2 + 1) if halve else None
        self.padding = side // 2

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.scale
        if self.blur is None:
            return F.conv2d(x, weight, self.bias, padding=self.padding)
        x = self.blur(x)
        if weight.shape[-1] == 1:
            return F.conv2d(x[..., ::2, ::2], weight, self.bias)
        return F.conv2d(x, weight, self.bias, stride=2)


class Blur(nn.Module):
    """The filter [1, 3, 3, 1] in both directions, on each of the channels of (B, C, h, w), with zeros around."""

    kernel: Tensor

    def __init__(self, padding: int, gain: float = 1.0) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", gain * torch.outer(taps, taps), persistent=False)
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], 1, 4, 4)
        return F.conv2d(x, kernel, padding=self.padding, groups=x.shape[1])


class ModulatedConv(Scaled):
    """A convolution (B, C, h, w) whose weights each image's w (B, latent) scales by input channel.

    With `demodulate` they are scaled again, by output channel, to norm 1, so that unit variance goes in and comes out
    (Karras et al. 2020a, equations 1 and 3). Here the feature maps are scaled instead, before and after one
    convolution that all images share: the same function, and no convolution per image. `double` doubles the sides.
    """

    def __init__(
        self, inputs: int, outputs: int, side: int, latent: int, double: bool = False, demodulate: bool = True
    ) -> None:
        super().__init__((inputs, outputs, side, side) if double else (outputs, inputs, side, side), inputs * side**2)
        self.style = Linear(latent, inputs, bias=1.0)
        self.demodulate = demodulate
        self.blur = Blur(1, gain=4.0) if double else None

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style, weight = self.style(w), self.weight * self.scale
        x = x * style[:, :, None, None]
        if self.blur is None:
            x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        else:
            x = self.blur(F.conv_transpose2d(x, weight, stride=2))
        if not self.demodulate:
            return x
        energy = weight.square().sum((2, 3))
        energy = energy.mT if self.blur is None else energy
        norms: Tensor = (style.square() @ energy + 1e-8).sqrt()
        return x / norms[:, :, None, None].to(x.dtype)


class StyleLayer(nn.Module):
    """A modulated convolution, noise of one channel at a learned strength, a bias and the activation."""

    def __init__(self, inputs: int, outputs: int, latent: int, double: bool) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, latent, double)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = self.conv(x, w)
        noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device)
        return activated(x + (self.strength * noise + self.bias[:, None, None]).to(x.dtype))


class Level(nn.Module):
    """The layers of one size, and what they add to the images of half that size, (B, colours, h, w)."""

    def __init__(self, above: int, wide: int, colours: int, latent: int, depth: int) -> None:
        super().__init__()
        first = [StyleLayer(above, wide, latent, double=True)] if above else []
        rest = [StyleLayer(wide, wide, latent, double=False) for _ in range(depth - 1)]
        self.layers = nn.ModuleList([*first, *rest])
        self.to_colours = ModulatedConv(wide, colours, 1, latent, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(colours))

    def forward(self, x: Tensor, images: Tensor | None, styles: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The maps and the images of this size, with a style a layer and one more for the colours."""
        for layer, style in zip(self.layers, styles):
            x = layer(x, style)
        added = self.to_colours(x, styles[len(self.layers)]) + self.bias[:, None, None]
        if images is None:
            return x, added
        return x, F.interpolate(images, scale_factor=2, mode="bilinear") + added


class Mapping(nn.Module):
    """Latents z (B, latent), with labels (B,) if there are classes, to w (B, latent), by `depth` dense layers."""

    def __init__(self, latent: int, num_classes: int, depth: int, rate: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.embed = Linear(num_classes, latent) if num_classes else None
        inputs = [2 * latent if num_classes else latent] + [latent] * (depth - 1)
        self.layers = nn.ModuleList(Linear(wide, latent, rate=rate) for wide in inputs)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        w = unit(z)
        if self.embed is not None and labels is not None:
            w = torch.cat([w, unit(self.embed(F.one_hot(labels, self.num_classes).float()))], dim=1)
        for layer in self.layers:
            w = activated(layer(w))
        return w


class StyleGenerator(nn.Module):
    """Latents (B, latent), with labels (B,) if there are classes, to images (B, C, H, W), which nothing bounds.

    Levels of twice the side each follow a learned constant, and their images are summed. While it is trained, images
    get the styles of a second latent from some layer on, each with probability `mixing`.
    """

    def __init__(self, data: DataSpec, config: GANConfig) -> None:
        super().__init__()
        sizes = pyramid(data.shape[1:], config.patch, config.base)
        wide = widths(config.width, len(sizes), config.widest)[::-1]
        colours, latent = data.shape[0] * config.patch**2, config.latent
        self.size, self.patch = data.shape[1:], config.patch
        rate = config.mapping_rate if config.equalized else 1.0
        self.mapping = Mapping(latent, data.num_classes, config.mapping, rate)
        self.constant = nn.Parameter(torch.randn(wide[0], *sizes[-1]))
        levels = [Level(a, b, colours, latent, config.depth) for a, b in pairwise([0, *wide])]
        self.levels = nn.ModuleList(levels)
        self.starts = list(accumulate([0, *(len(level.layers) for level in levels)]))
        self.styles = 1 + self.starts[-1]
        self.mixing = config.mixing if self.styles > 1 else 0.0
        self.output = nn.Tanh() if config.tanh else nn.Identity()
        if not config.equalized:
            unscaled(self)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        w = self.mapping(z, labels)
        if not self.training or not self.mixing:
            return self.of(w)
        other = self.mapping(torch.randn_like(z), labels)
        first = torch.randint(1, self.styles, (len(z),), device=z.device)
        kept = torch.rand(len(z), device=z.device) >= self.mixing
        return self.synthesis([torch.where((kept | (i < first))[:, None], w, other) for i in range(self.styles)])

    def of(self, w: Tensor) -> Tensor:
        """The images of w (B, latent)."""
        return self.synthesis([w] * self.styles)

    def synthesis(self, styles: list[Tensor]) -> Tensor:
        """The images of one w (B, latent) a layer."""
        x, images = self.constant.expand(len(styles[0]), -1, -1, -1), None
        for level, start in zip(self.levels, self.starts):
            x, images = level(x, images, styles[start:])
        assert images is not None
        whole: Tensor = self.output(unfolded(images, self.patch, self.size).float())
        return whole


def with_deviation(x: Tensor, group: int) -> Tensor:
    """Maps (B, C, h, w) and one more channel: how much the images of a group differ, a number for each group.

    It is the standard deviation over the group, averaged over channels and places. Groups are neighbours in the batch,
    as many as `group`, or fewer if that does not divide the batch. Source: Karras et al. 2018, section 3.
    """
    groups = x.float().reshape(-1, math.gcd(len(x), group), *x.shape[1:])
    variance = (groups - groups.mean(1, keepdim=True)).square().mean(1)
    deviation = (variance + 1e-8).sqrt().mean((1, 2, 3))
    channel = deviation.repeat_interleave(groups.shape[1])[:, None, None, None]
    return torch.cat([x, channel.to(x.dtype).expand(-1, 1, *x.shape[2:])], dim=1)


class CriticBlock(nn.Module):
    """`depth` convolutions, the last of which halves the sides; in parallel, with `skip`, a 1x1 convolution.

    The sum of two paths is scaled so that it keeps their variance.
    """

    def __init__(self, inputs: int, outputs: int, depth: int, skip: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Conv(inputs, inputs, 3) for _ in range(depth - 1))
        self.convs.append(Conv(inputs, outputs, 3, halve=True))
        self.skip = Conv(inputs, outputs, 1, halve=True, bias=False) if skip else None

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for conv in self.convs:
            h = activated(conv(h))
        return h if self.skip is None else (h + self.skip(x)) / math.sqrt(2)


class StyleCritic(nn.Module):
    """Images (B, C, H, W), with labels (B,) if there are classes, to scores (B,).

    Sides are halved, a block each, down to the generator's constant. A class enters as a projection: its embedding
    times what the head makes of the features.
    """

    separate = False

    def __init__(self, data: DataSpec, config: GANConfig) -> None:
        super().__init__()
        sizes = pyramid(data.shape[1:], config.patch, config.base)
        wide = widths(config.critic_width, len(sizes), config.widest)
        self.patch, self.multiple = config.patch, config.patch * 2 ** (len(sizes) - 1)
        self.group, self.num_classes = config.deviation_group, data.num_classes
        self.stem = Conv(data.shape[0] * config.patch**2, wide[0], 1)
        blocks = [CriticBlock(a, b, config.depth, config.critic_skips) for a, b in pairwise(wide)]
        self.blocks = nn.Sequential(*blocks)
        last = wide[-1]
        self.conv = Conv(last + 1, last, 3)
        self.dense = Linear(last * math.prod(sizes[-1]), last)
        self.head = Linear(last, last if data.num_classes else 1)
        self.embed = Linear(data.num_classes, last) if data.num_classes else None
        if not config.equalized:
            unscaled(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        x = folded(images, self.patch, self.multiple)
        x = self.blocks(activated(self.stem(x)))
        x = activated(self.conv(with_deviation(x, self.group)))
        scores: Tensor = self.head(activated(self.dense(x.flatten(1)))).float()
        if self.embed is None or labels is None:
            return scores.squeeze(1)
        classes = unit(self.embed(F.one_hot(labels, self.num_classes).float()).float())
        return (scores * classes).sum(1) / math.sqrt(scores.shape[1])
