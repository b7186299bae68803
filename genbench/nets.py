"""Shared convolutional networks, so that what is compared is the family of models, not its backbone.

A network knows no sampler, no loss and no data set. All take images of any side: what does not divide is padded at the
bottom and the right, and cropped again. There is no batch normalisation, hence no state but the parameters.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.devices import for_attention
from genbench.embeddings import LabelEmbedding, TimeEmbedding
from genbench.transformer import TransformerBlock

Size = tuple[int, int]


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The convolution with weight and bias at zero: a residual branch, or an output, that starts as nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def group_norm(channels: int, groups: int = 32) -> nn.GroupNorm:
    """Group normalisation (Wu & He 2018): `groups` groups, or fewer, so that each has at least four channels."""
    return nn.GroupNorm(math.gcd(channels, max(1, min(groups, channels // 4))), channels)


def pad_to_multiple(images: Tensor, factor: int) -> Tensor:
    """Images (B, C, H, W), grown at the bottom and the right by their edge until `factor` divides both sides."""
    height, width = images.shape[-2:]
    if height % factor == 0 and width % factor == 0:
        return images
    return F.pad(images, (0, -width % factor, 0, -height % factor), mode="replicate")


def resized(x: Tensor, size: Size) -> Tensor:
    """Feature maps (B, C, H, W) of a smaller size by means, or of a larger one by nearest neighbours."""
    return F.adaptive_avg_pool2d(x, size) if size < x.shape[-2:] else F.interpolate(x, size=size, mode="nearest")


class ResBlock(nn.Module):
    """Two convolutions round a skip connection; an embedding (B, embedding), if any, scales and shifts in between.

    A `size` resizes on either path before the first convolution. The last convolution starts at zero.
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

    def forward(self, x: Tensor, embedding: Tensor | None = None, size: Size | None = None) -> Tensor:
        h = F.silu(self.norm1(x))
        if size is not None:
            x, h = resized(x, size), resized(h, size)
        h = self.conv1(h)
        if self.embed is None or embedding is None:
            h = self.norm2(h)
        elif self.scale_shift:
            scale, shift = self.embed(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + self.embed(F.silu(embedding))[:, :, None, None])
        out: Tensor = self.skip(x) + self.conv2(self.dropout(F.silu(h)))
        return out


def steering(network: nn.Module) -> list[nn.Parameter]:
    """The weights that embed times and labels, and those by which residual blocks read them: no image passes these."""
    embedders = [m for m in network.modules() if isinstance(m, TimeEmbedding | LabelEmbedding)]
    readers = [m.embed for m in network.modules() if isinstance(m, ResBlock) and m.embed is not None]
    return [p for module in (*embedders, *readers) for p in module.parameters()]


class Attention(nn.Module):
    """Self-attention over all places of a feature map, with a residual connection (Vaswani et al. 2017)."""

    def __init__(self, channels: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).transpose(3, 4)
        query, key, value = for_attention(qkv).unbind(1)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(2, 3).reshape(b, c, h, w)
        out: Tensor = x + self.out(mixed)
        return out


class SpatialTransformer(nn.Module):
    """A transformer block over all places of a feature map, which sees a context (B, M, context) too.

    Source: Rombach et al. 2022, appendix E.2.1. The last projection starts at zero.
    """

    def __init__(self, channels: int, context: int, heads: int = 1) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.tokens = nn.Conv2d(channels, channels, 1)
        self.block = TransformerBlock(channels, context, heads)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        tokens = self.tokens(self.norm(x)).flatten(2).transpose(1, 2)
        out: Tensor = x + self.out(self.block(tokens, context).transpose(1, 2).unflatten(2, x.shape[2:]))
        return out


class Block(nn.Module):
    """A residual block, followed by attention where `attention` says so: to a context too if it has channels."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        attention: bool = False,
        heads: int = 1,
        embedding: int = 0,
        dropout: float = 0.0,
        scale_shift: bool = True,
        context: int = 0,
    ) -> None:
        super().__init__()
        self.res = ResBlock(in_channels, out_channels, embedding, dropout, scale_shift)
        self.attention: nn.Module = nn.Identity()
        if attention:
            self.attention = (
                SpatialTransformer(out_channels, context, heads) if context else Attention(out_channels, heads)
            )

    def forward(self, x: Tensor, embedding: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        x = self.res(x, embedding)
        seen = [context] if isinstance(self.attention, SpatialTransformer) else []
        out: Tensor = self.attention(x, *seen)
        return out


class Upsample(nn.Module):
    """Nearest neighbours to the given size, then a convolution (Odena et al. 2016)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, size=size, mode="nearest"))
        return out


def downsample(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A convolution with stride 2: sides are halved, rounded up."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)


class UNet(nn.Module):
    """Images (B, in_channels, H, W) at times (B,), with labels (B,) if it has classes, to (B, out_channels, H, W).

    One entry of `widths` is one resolution, with `blocks` residual blocks on the way down and one more on the way up.
    `attention` lists the levels (0 is the finest) that have it, apart from the middle. `patch` folds that many pixels a
    side into channels first: a quarter of the work at `patch=2`. `head_channels` gives the heads of attention their
    size instead of `heads` their number. With `context` the class is a token of so many channels that the attention
    sees, else it is added to the time. `resample` halves and doubles the sides in residual blocks instead of
    convolutions. The output starts at zero. Raises ValueError for a context without classes.
    Source: Ho et al. 2020, appendix B, which is `patch=1, widths=(128, 256, 256, 256), attention=(1,), dropout=.1,
    scale_shift=False`; context: Rombach et al. 2022, section 3.3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int] = (64, 128),
        blocks: int = 2,
        attention: Sequence[int] = (),
        *,
        patch: int = 1,
        heads: int = 1,
        head_channels: int = 0,
        embedding: int = 0,
        num_classes: int = 0,
        context: int = 0,
        dropout: float = 0.0,
        scale_shift: bool = True,
        resample: bool = False,
    ) -> None:
        super().__init__()
        if context and not num_classes:
            raise ValueError(f"a context of {context} channels needs classes")
        self.patch, self.context = patch, context
        embedding = embedding or 4 * widths[0]
        self.time = TimeEmbedding(embedding, widths[0])
        self.label = LabelEmbedding(num_classes, context or embedding)

        def block(wide: int, narrow: int, attend: bool) -> Block:
            count = narrow // head_channels if head_channels else heads
            return Block(wide, narrow, attend, count, embedding, dropout, scale_shift, context)

        def change(width: int, layer: Callable[[int, int], nn.Module]) -> nn.Module:
            return ResBlock(width, width, embedding, dropout, scale_shift) if resample else layer(width, width)

        width = widths[0]
        self.stem = nn.Conv2d(in_channels * patch**2, width, 3, padding=1)
        skips = [width]
        self.down = nn.ModuleList()
        for level, wide in enumerate(widths):
            if level:
                self.down.append(change(width, downsample))
                skips.append(width)
            for _ in range(blocks):
                self.down.append(block(width, wide, level in attention))
                width = wide
                skips.append(width)
        self.middle = nn.ModuleList([block(width, width, True), block(width, width, False)])
        self.up = nn.ModuleList()
        for level, wide in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(block(width + skips.pop(), wide, level in attention))
                width = wide
            if level:
                self.up.append(change(width, Upsample))
        self.norm = group_norm(width)
        self.head = zeroed(nn.Conv2d(width, out_channels * patch**2, 3, padding=1))

    def forward(self, images: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        height, width = images.shape[-2:]
        embedding, context = self.time(time), None
        label = self.label(embedding, labels)
        if self.context:
            context = label[:, None]
        else:
            embedding = embedding + label
        x = self.stem(F.pixel_unshuffle(pad_to_multiple(images, self.patch), self.patch))
        skips = [x]
        for layer in self.down:
            if isinstance(layer, Block):
                x = layer(x, embedding, context)
            elif isinstance(layer, ResBlock):
                x = layer(x, embedding, latent_size(x.shape[-2:], 2))
            else:
                x = layer(x)
            skips.append(x)
        for layer in self.middle:
            x = layer(x, embedding, context)
        for layer in self.up:
            if isinstance(layer, Block):
                x = layer(torch.cat([x, skips.pop()], dim=1), embedding, context)
            elif isinstance(layer, ResBlock):
                x = layer(x, embedding, skips[-1].shape[-2:])
            else:
                x = layer(x, skips[-1].shape[-2:])
        out = F.pixel_shuffle(self.head(F.silu(self.norm(x))), self.patch)
        return out[..., :height, :width]


def reduction(widths: Sequence[int], patch: int) -> int:
    """By how much an `Encoder` or `Decoder` of these widths shrinks or grows a side."""
    return int(patch * 2 ** (len(widths) - 1))


def latent_size(size: Size, factor: int) -> Size:
    """Height and width of what an encoder makes of images of `size` with a reduction by `factor`."""
    return -(-size[0] // factor), -(-size[1] // factor)


class Encoder(nn.Module):
    """Images (B, in_channels, H, W) to a map (B, out_channels, h, w), each side divided by `factor` and rounded up.

    `factor` is patch * 2 ** (levels - 1): the patch is folded into channels, the rest are strided convolutions.
    `widths` goes from the finest level to the coarsest, where the middle has `middle` residual blocks, with attention
    behind the first where `attention` says so. With `num_classes` the labels (B,) scale and shift every block.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int] = (32, 64),
        blocks: int = 1,
        *,
        patch: int = 2,
        middle: int = 1,
        attention: bool = False,
        num_classes: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.patch, self.factor = patch, reduction(widths, patch)
        embedding = 2 * widths[0] if num_classes else 0
        self.label = LabelEmbedding(num_classes, embedding)
        width = widths[0]
        layers: list[nn.Module] = [nn.Conv2d(in_channels * patch**2, width, 3, padding=1)]
        for level, wide in enumerate(widths):
            if level:
                layers.append(downsample(width, width))
            for _ in range(blocks):
                layers.append(Block(width, wide, embedding=embedding, dropout=dropout))
                width = wide
        for place in range(middle):
            layers.append(Block(width, width, attention and place == 0, embedding=embedding, dropout=dropout))
        self.layers = nn.ModuleList(layers)
        self.norm = group_norm(width)
        self.head = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        embedding = self.label(images, labels)
        x = F.pixel_unshuffle(pad_to_multiple(images, self.factor), self.patch)
        for layer in self.layers:
            x = layer(x, embedding) if isinstance(layer, Block) else layer(x)
        out: Tensor = self.head(F.silu(self.norm(x)))
        return out


class Decoder(nn.Module):
    """The mirror of `Encoder`: a map (B, in_channels, h, w) to images (B, out_channels, H, W) of the given `size`.

    `widths` has the encoder's order, finest level first; (h, w) is `latent_size(size, factor)`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: Size,
        widths: Sequence[int] = (32, 64),
        blocks: int = 1,
        *,
        patch: int = 2,
        middle: int = 1,
        attention: bool = False,
        num_classes: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.size, self.patch, self.factor = size, patch, reduction(widths, patch)
        embedding = 2 * widths[0] if num_classes else 0
        self.label = LabelEmbedding(num_classes, embedding)
        width = widths[-1]
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1)]
        for place in range(middle):
            layers.append(Block(width, width, attention and place == 0, embedding=embedding, dropout=dropout))
        for level, wide in reversed(list(enumerate(widths))):
            for _ in range(blocks):
                layers.append(Block(width, wide, embedding=embedding, dropout=dropout))
                width = wide
            if level:
                layers.append(Upsample(width, width))
        self.layers = nn.ModuleList(layers)
        self.norm = group_norm(width)
        self.head = nn.Conv2d(width, out_channels * patch**2, 3, padding=1)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        embedding = self.label(latents, labels)
        x = latents
        for layer in self.layers:
            if isinstance(layer, Block):
                x = layer(x, embedding)
            elif isinstance(layer, Upsample):
                x = layer(x, (2 * x.shape[-2], 2 * x.shape[-1]))
            else:
                x = layer(x)
        out = F.pixel_shuffle(self.head(F.silu(self.norm(x))), self.patch)
        return out[..., : self.size[0], : self.size[1]]
