"""Convolutional networks that the model families share, so that a comparison is of the families, not of backbones.

A network knows no sampler, no loss and no dataset. All take images of any size: sides that do not divide are padded at
the bottom and the right, and the result is cropped. There is no batch normalisation, hence no state but the parameters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.devices import for_attention
from genbench.embeddings import LabelEmbedding, TimeEmbedding, Words
from genbench.transformer import Context, TransformerBlock

Size = tuple[int, int]
Maybe = Tensor | None
Seen = Context | None


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The convolution with weight and bias set to zero, for a residual branch or an output that starts at zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def group_norm(channels: int, groups: int = 32) -> nn.GroupNorm:
    """Group normalisation (Wu & He 2018) with `groups` groups, or fewer, so that each has at least four channels."""
    return nn.GroupNorm(math.gcd(channels, max(1, min(groups, channels // 4))), channels)


MOST_GROUPS = 65_535
"""Groups that CUDA's backward pass of group normalisation takes, of all images together."""


def steered(norm: nn.Module, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`norm(x) * (1 + scale) + shift` of feature maps (B, C, H, W), with the scale and shift of each channel, (B, C).

    Group normalisation does it in one pass: the channels of a batch are to it those of one image, each of which it
    scales and shifts by a number of its own.
    """
    if not isinstance(norm, nn.GroupNorm) or not 0 < len(x) * norm.num_groups <= MOST_GROUPS:
        out: Tensor = norm(x) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
        return out
    scale = 1 + scale.to(norm.weight.dtype)
    weight, bias = norm.weight * scale, norm.bias * scale + shift
    maps = x.reshape(1, -1, *x.shape[2:])
    return F.group_norm(maps, len(x) * norm.num_groups, weight.flatten(), bias.flatten(), norm.eps).view(x.shape)


def pad_to_multiple(images: Tensor, factor: int) -> Tensor:
    """Images (B, C, H, W), edge-padded at the bottom and the right until `factor` divides both sides."""
    below, right = (-side % factor for side in images.shape[-2:])
    return F.pad(images, (0, right, 0, below), mode="replicate") if below or right else images


def folded(images: Tensor, patch: int, multiple: int = 1) -> Tensor:
    """Images (B, C, H, W) with squares of `patch` pixels as channels, padded so that `multiple` divides sides too."""
    return F.pixel_unshuffle(pad_to_multiple(images, math.lcm(patch, multiple)), patch)


def unfolded(maps: Tensor, patch: int, size: Sequence[int]) -> Tensor:
    """The inverse of `folded`: maps (B, C patch^2, h, w) as images (B, C, H, W) of `size`, without what was padded."""
    return F.pixel_shuffle(maps, patch)[..., : size[0], : size[1]]


def resized(x: Tensor, size: Size) -> Tensor:
    """Feature maps (B, C, H, W) at a smaller size by averaging, or at a larger one by nearest neighbours."""
    smaller = any(new < old for new, old in zip(size, x.shape[-2:]))
    return F.adaptive_avg_pool2d(x, size) if smaller else F.interpolate(x, size=size, mode="nearest")


def latent_size(size: Size, factor: int) -> Size:
    """Height and width of images of `size` after a reduction by `factor`, rounded up."""
    return -(-size[0] // factor), -(-size[1] // factor)


class Layer(nn.Module):
    """What the networks here are made of: feature maps (B, C, H, W) in, feature maps out; on its own, the identity.

    Every layer takes the same arguments and ignores those it does not use: `embedding` (B, E) of time and label, which
    steers residual blocks; `context`, which attention sees; `size`, the height and width to resize to.
    """

    def forward(self, x: Tensor, embedding: Maybe = None, context: Seen = None, size: Size | None = None) -> Tensor:
        return x


class Conv(nn.Conv2d):
    """A convolution as a `Layer`."""

    def forward(self, x: Tensor, embedding: Maybe = None, context: Seen = None, size: Size | None = None) -> Tensor:
        return super().forward(x)


def downsample(in_channels: int, out_channels: int) -> Conv:
    """A convolution with stride 2: sides are halved, rounded up."""
    return Conv(in_channels, out_channels, 3, stride=2, padding=1)


class Upsample(Layer):
    """Nearest neighbours to `size`, or to twice the sides, then a convolution (Odena et al. 2016)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, embedding: Maybe = None, context: Seen = None, size: Size | None = None) -> Tensor:
        size = size or (2 * x.shape[-2], 2 * x.shape[-1])
        out: Tensor = self.conv(F.interpolate(x, size=size, mode="nearest"))
        return out


class ResBlock(Layer):
    """Two convolutions with a skip connection; an embedding (B, embedding), if any, scales and shifts between them.

    With a `size`, both paths are resized before the first convolution. The last convolution starts at zero.
    Source: He et al. 2016 in the pre-activation form of Ho et al. 2020; scale-shift and resizing of Dhariwal & Nichol
    2021, or with `scale_shift=False` the plain addition of Ho et al.
    """

    def __init__(
        self, in_channels: int, out_channels: int, embedding: int = 0, dropout: float = 0.0, scale_shift: bool = True
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.embed = nn.Linear(embedding, out_channels * (2 if scale_shift else 1)) if embedding else None
        self.norm2 = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, embedding: Maybe = None, context: Seen = None, size: Size | None = None) -> Tensor:
        h = F.silu(self.norm1(x))
        if size is not None:
            x, h = resized(x, size), resized(h, size)
        h = self.conv1(h)
        if self.embed is None or embedding is None:
            h = self.norm2(h)
        elif self.scale_shift:
            h = steered(self.norm2, h, *self.embed(F.silu(embedding)).chunk(2, dim=1))
        else:
            h = self.norm2(h + self.embed(F.silu(embedding))[:, :, None, None])
        out: Tensor = self.skip(x) + self.conv2(self.dropout(F.silu(h)))
        return out


class Attention(Layer):
    """Self-attention over all positions of a feature map, with a residual connection (Vaswani et al. 2017)."""

    def __init__(self, channels: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, embedding: Maybe = None, context: Seen = None, size: Size | None = None) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).transpose(3, 4)
        query, key, value = for_attention(qkv).unbind(1)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(2, 3).reshape(b, c, h, w)
        out: Tensor = x + self.out(mixed)
        return out


class SpatialTransformer(Layer):
    """A transformer block over all positions of a feature map and a context of `context` channels.

    Source: Rombach et al. 2022, appendix E.2.1. The last projection starts at zero.
    """

    def __init__(self, channels: int, context: int, heads: int = 1) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.tokens = nn.Conv2d(channels, channels, 1)
        self.block = TransformerBlock(channels, context, heads)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, embedding: Maybe = None, context: Seen = None, size: Size | None = None) -> Tensor:
        tokens = self.tokens(self.norm(x)).flatten(2).transpose(1, 2)
        out: Tensor = x + self.out(self.block(tokens, context).transpose(1, 2).unflatten(2, x.shape[2:]))
        return out


class Block(Layer):
    """A residual block followed by attention, if any; never resizes."""

    def __init__(self, res: ResBlock, attention: Layer | None = None) -> None:
        super().__init__()
        self.res = res
        self.attention = Layer() if attention is None else attention

    def forward(self, x: Tensor, embedding: Maybe = None, context: Seen = None, size: Size | None = None) -> Tensor:
        out: Tensor = self.attention(self.res(x, embedding), embedding, context)
        return out


@dataclass(frozen=True)
class UNetSpec:
    """The settings of a `UNet`. Raises ValueError for a context without classes or text.

    One entry of `widths` is one resolution, with `blocks` residual blocks on the way down and one more on the way up.
    `attention` lists the levels (0 is the finest) that have it, apart from the middle. `patch` first folds squares of
    that side into channels: `patch=2` takes a quarter of the work. `head_channels` fixes the size of the attention
    heads instead of their number, `heads`. With `context` the class is a token of that many channels that attention
    sees; otherwise it is added to the time. A vector is added to the time, and so is a text as a whole, whose words
    are tokens too if there is a context (Saharia et al. 2022, section 2.3). A text has numbers below `words`, or is
    `encoded` in so many channels. `resample` halves and doubles the sides in residual blocks instead of convolutions.
    """

    in_channels: int
    out_channels: int
    widths: tuple[int, ...] = (64, 128)
    blocks: int = 2
    attention: tuple[int, ...] = ()
    patch: int = 1
    heads: int = 1
    head_channels: int = 0
    num_classes: int = 0
    context: int = 0
    dropout: float = 0.0
    scale_shift: bool = True
    resample: bool = False
    words: int = 0
    encoded: int = 0
    vector: int = 0

    def __post_init__(self) -> None:
        if self.context and not (self.num_classes or self.has_text):
            raise ValueError(f"a context of {self.context} channels needs classes or text")

    @property
    def has_text(self) -> bool:
        """Whether the network is steered by text."""
        return bool(self.words or self.encoded)

    @property
    def embedding(self) -> int:
        """Dimensions of the embedded time."""
        return 4 * self.widths[0]

    def res_block(self, in_channels: int, out_channels: int) -> ResBlock:
        """A residual block that reads the embedding."""
        return ResBlock(in_channels, out_channels, self.embedding, self.dropout, self.scale_shift)

    def block(self, in_channels: int, out_channels: int, attends: bool) -> Block:
        """A block whose attention, if it `attends`, sees the context, if there is one."""
        res = self.res_block(in_channels, out_channels)
        if not attends:
            return Block(res)
        heads = out_channels // self.head_channels if self.head_channels else self.heads
        if self.context:
            return Block(res, SpatialTransformer(out_channels, self.context, heads))
        return Block(res, Attention(out_channels, heads))


class Descent(nn.Module):
    """The way down of a `UNet`: images (B, in_channels, H, W) at times (B,), under labels (B,), a text or a vector."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.patch, self.context = spec.patch, spec.context
        self.time = TimeEmbedding(spec.embedding, spec.widths[0])
        self.label = LabelEmbedding(spec.num_classes, spec.context or spec.embedding)
        channels = spec.context or spec.embedding
        self.words = Words(spec.words, channels, spec.encoded) if spec.has_text else None
        self.whole = nn.Linear(channels, spec.embedding) if spec.has_text else None
        self.vector = nn.Linear(spec.vector, spec.embedding) if spec.vector else None
        width = spec.widths[0]
        self.stem = nn.Conv2d(spec.in_channels * spec.patch**2, width, 3, padding=1)
        self.channels = [width]
        self.down = nn.ModuleList()
        for level, wide in enumerate(spec.widths):
            if level:
                self.down.append(spec.res_block(width, width) if spec.resample else downsample(width, width))
                self.channels.append(width)
            for _ in range(spec.blocks):
                self.down.append(spec.block(width, wide, level in spec.attention))
                width = wide
                self.channels.append(width)
        self.middle = nn.ModuleList([spec.block(width, width, True), spec.block(width, width, False)])

    def steering(self, time: Tensor, given: Maybe) -> tuple[Tensor, Seen]:
        """The embedding (B, E) of time and what is given, and the context that attention sees, if any."""
        embedding: Tensor = self.time(time)
        if self.vector is not None:
            return embedding + self.vector(given), None
        if self.words is not None and self.whole is not None:
            text: Context = self.words(given)
            return embedding + self.whole(text.tokens[:, 0]), text if self.context else None
        label = self.label(embedding, given)
        return (embedding, Context(label[:, None])) if self.context else (embedding + label, None)

    def descend(self, images: Tensor, time: Tensor, given: Maybe = None) -> tuple[list[Tensor], Tensor, Seen]:
        """The maps of the stem, of each layer down and of the two in the middle; then embedding and context."""
        embedding, context = self.steering(time, given)
        maps = [self.stem(folded(images, self.patch))]
        for layer in (*self.down, *self.middle):
            maps.append(layer(maps[-1], embedding, context, latent_size(maps[-1].shape[-2:], 2)))
        return maps, embedding, context


class UNet(Descent):
    """Images (B, in_channels, H, W) at times (B,), under labels (B,), a text or a vector, to (B, out_channels, H, W).

    The output starts at zero. Source: Ho et al. 2020, appendix B, which is `patch=1, widths=(128, 256, 256, 256),
    attention=(1,), dropout=.1, scale_shift=False`; context: Rombach et al. 2022, section 3.3.
    """

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__(spec)
        width, skips = spec.widths[-1], list(self.channels)
        self.up = nn.ModuleList()
        self.joins: list[bool] = []
        for level, wide in reversed(list(enumerate(spec.widths))):
            for _ in range(spec.blocks + 1):
                self.up.append(spec.block(width + skips.pop(), wide, level in spec.attention))
                width = wide
            if level:
                self.up.append(spec.res_block(width, width) if spec.resample else Upsample(width, width))
            self.joins += [True] * (spec.blocks + 1) + [False] * (level > 0)
        self.norm = group_norm(width)
        self.head = zeroed(nn.Conv2d(width, spec.out_channels * spec.patch**2, 3, padding=1))

    def forward(self, images: Tensor, time: Tensor, given: Tensor | None = None) -> Tensor:
        (*skips, _, x), embedding, context = self.descend(images, time, given)
        for layer, joins in zip(self.up, self.joins):
            skip = skips.pop() if joins else skips[-1]
            x = layer(torch.cat([x, skip], dim=1) if joins else x, embedding, context, skip.shape[-2:])
        return unfolded(self.head(F.silu(self.norm(x))), self.patch, images.shape[2:])
