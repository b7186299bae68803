"""Encoder and decoder of images as convolutional networks, made of the layers of `genbench.nets`.

They take images of any size, which are padded at the bottom and the right, and whose reconstructions are cropped.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from genbench.embeddings import LabelEmbedding
from genbench.nets import Attention, Block, Conv, ResBlock, Size, Upsample, downsample, folded, group_norm, unfolded


@dataclass(frozen=True)
class AutoencoderSpec:
    """The settings of an `Encoder` and of the `Decoder` that mirrors it.

    `widths` goes from the finest level to the coarsest, with `blocks` residual blocks each. `patch` folds squares of
    that side into channels; the other halvings are strided convolutions. The coarsest level has `middle` more residual
    blocks, the first of them followed by attention if `attention` is set; with `coarsest_attention` attention follows
    each of its other blocks too. With `num_classes` the labels (B,) scale and shift in every block.
    """

    widths: tuple[int, ...] = (32, 64)
    blocks: int = 1
    patch: int = 2
    middle: int = 1
    attention: bool = False
    coarsest_attention: bool = False
    num_classes: int = 0
    dropout: float = 0.0

    @property
    def factor(self) -> int:
        """By how much a side shrinks."""
        return int(self.patch * 2 ** (len(self.widths) - 1))

    @property
    def embedding(self) -> int:
        """Dimensions of an embedded label; 0 without classes."""
        return 2 * self.widths[0] if self.num_classes else 0

    def block(self, in_channels: int, out_channels: int, attends: bool) -> Block:
        """A block that reads the label."""
        res = ResBlock(in_channels, out_channels, self.embedding, self.dropout)
        return Block(res, Attention(out_channels) if attends else None)

    def level_block(self, level: int, in_channels: int) -> Block:
        """One of the `blocks` of a level."""
        coarsest = level == len(self.widths) - 1
        return self.block(in_channels, self.widths[level], self.coarsest_attention and coarsest)

    def middle_blocks(self) -> list[Block]:
        """Those that the coarsest level has besides."""
        width = self.widths[-1]
        return [self.block(width, width, self.attention and index == 0) for index in range(self.middle)]


class Chain(nn.Module):
    """What `Encoder` and `Decoder` share: layers that read the label, then normalisation and a last convolution."""

    layers: nn.ModuleList
    norm: nn.GroupNorm
    head: nn.Conv2d

    def __init__(self, spec: AutoencoderSpec) -> None:
        super().__init__()
        self.patch, self.factor = spec.patch, spec.factor
        self.label = LabelEmbedding(spec.num_classes, spec.embedding)

    def run(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Feature maps of the first layer's channels to those of the head's."""
        embedding = self.label(x, labels)
        for layer in self.layers:
            x = layer(x, embedding)
        out: Tensor = self.head(F.silu(self.norm(x)))
        return out


class Encoder(Chain):
    """Images (B, in_channels, H, W) to a map (B, out_channels, h, w), each side divided by `factor` and rounded up."""

    def __init__(self, in_channels: int, out_channels: int, spec: AutoencoderSpec) -> None:
        super().__init__(spec)
        width = spec.widths[0]
        layers: list[nn.Module] = [Conv(in_channels * spec.patch**2, width, 3, padding=1)]
        for level, wide in enumerate(spec.widths):
            if level:
                layers.append(downsample(width, width))
            for _ in range(spec.blocks):
                layers.append(spec.level_block(level, width))
                width = wide
        self.layers = nn.ModuleList([*layers, *spec.middle_blocks()])
        self.norm = group_norm(width)
        self.head = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.run(folded(images, self.patch, self.factor), labels)


class Decoder(Chain):
    """The mirror of `Encoder`: a map (B, in_channels, h, w) to images (B, out_channels, H, W) of the given `size`.

    (h, w) is `latent_size(size, factor)`.
    """

    def __init__(self, in_channels: int, out_channels: int, size: Size, spec: AutoencoderSpec) -> None:
        super().__init__(spec)
        self.size = size
        width = spec.widths[-1]
        layers: list[nn.Module] = [Conv(in_channels, width, 3, padding=1), *spec.middle_blocks()]
        for level, wide in reversed(list(enumerate(spec.widths))):
            for _ in range(spec.blocks):
                layers.append(spec.level_block(level, width))
                width = wide
            if level:
                layers.append(Upsample(width, width))
        self.layers = nn.ModuleList(layers)
        self.norm = group_norm(width)
        self.head = nn.Conv2d(width, out_channels * spec.patch**2, 3, padding=1)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return unfolded(self.run(latents, labels), self.patch, self.size)
