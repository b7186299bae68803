"""A classifier of noised images, or latents: the half of a U-Net on the way down, and logits of its coarsest map.

Source: Dhariwal & Nichol 2021, section 4 and appendix I.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from genbench import Config, field
from genbench.devices import for_attention
from genbench.nets import Descent, Size, UNetSpec, group_norm, latent_size, zeroed

Pool = Literal["mean", "attention"]
ONLY = {"classifier": [True]}


class ClassifierConfig(Config):
    """The settings of the classifier, of its training, and of guidance by its gradient."""

    classifier: bool = field(
        False, "train", "train a classifier of noised images first, by whose gradient samples can be guided"
    )
    classifier_share: float = field(
        0.15, "train", "share of the budget that the classifier takes", gt=0, lt=1, only_with=ONLY
    )
    classifier_widths: tuple[PositiveInt, ...] = field(
        (32, 64), "train", "the classifier's channels of each resolution, finest first", min_length=1, only_with=ONLY
    )
    classifier_blocks: int = field(
        1, "train", "the classifier's residual blocks of each resolution", ge=1, only_with=ONLY
    )
    classifier_attention: tuple[int, ...] = field(
        (), "train", "the classifier's resolutions with self-attention; 0 is the finest", only_with=ONLY
    )
    classifier_head_channels: int = field(
        0, "train", "channels of each of the classifier's attention heads; 0: one head", ge=0, only_with=ONLY
    )
    classifier_pool: Pool = field(
        "mean", "train", "the logits are of the mean of the coarsest map, or of what attention reads in it",
        only_with=ONLY,
    )  # fmt: skip
    classifier_learning_rate: float = field(
        2e-3, "train", "the classifier's learning rate of AdamW; like Muon's, it falls linearly to 0", gt=0,
        only_with=ONLY,
    )  # fmt: skip
    classifier_weight_decay: float = field(
        0.05, "train", "the classifier's weight decay, decoupled from the gradient", ge=0, only_with=ONLY
    )
    classifier_scale: float = field(
        0.0, "sample", "s of guidance by the classifier's gradient, s grad log p(label | x_t); 0 for none", ge=0,
        le=1000, only_with=ONLY,
    )  # fmt: skip

    @model_validator(mode="after")
    def classifier_is_consistent(self) -> Self:
        if self.classifier_scale and not self.classifier:
            told = f"classifier_scale: {self.classifier_scale:g} needs a model trained with a classifier"
            raise ValueError(f"{told}; set classifier to true")
        if (first := self.classifier_widths[0]) % 2:
            raise ValueError(f"classifier_widths: {first} is odd; sines and cosines take an even first width")
        heads = {"head_channels": self.classifier_head_channels}
        check_attention(self.classifier_widths, self.classifier_attention, heads, "classifier_")
        return self


def check_attention(
    widths: Sequence[int], attention: Sequence[int], heads: Mapping[str, int], prefix: str = ""
) -> None:
    """Raise ValueError, naming the option, if a resolution is not there or if heads do not divide all of the widths."""
    if any(level not in range(len(widths)) for level in attention):
        levels = list(attention)
        raise ValueError(f"{prefix}attention: {levels} names a resolution that is not in 0..{len(widths) - 1}")
    for name, size in heads.items():
        if size and any(width % size for width in widths):
            raise ValueError(f"{prefix}{name}: {size} does not divide every one of the widths {list(widths)}")


class AttentionPool(nn.Module):
    """What the mean of a map (B, channels, h, w) reads in it by attention, as (B, out_channels).

    The mean is one more place, and each of the `places` has a learned position. Source: Radford et al. 2021, "Learning
    Transferable Visual Models From Natural Language Supervision", section 2.4.
    """

    def __init__(self, channels: int, out_channels: int, places: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.positions = nn.Parameter(torch.randn(places + 1, channels) / math.sqrt(channels))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        places = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([places.mean(1, keepdim=True), places], dim=1) + self.positions
        qkv = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = for_attention(qkv).unbind(0)
        out: Tensor = self.out(F.scaled_dot_product_attention(query[:, :, :1], key, value).flatten(1))
        return out


class UNetClassifier(Descent):
    """Images (B, in_channels, *size) with the noise of times (B,) to logits, (B, out_channels)."""

    def __init__(self, spec: UNetSpec, size: Size, pool: Pool) -> None:
        super().__init__(spec)
        width = spec.widths[-1]
        self.norm = group_norm(width)
        self.head: nn.Module
        if pool == "attention":
            coarsest = latent_size(size, spec.patch * 2 ** (len(spec.widths) - 1))
            heads = width // spec.head_channels if spec.head_channels else spec.heads
            self.head = AttentionPool(width, spec.out_channels, math.prod(coarsest), heads)
        else:
            logits = zeroed(nn.Conv2d(width, spec.out_channels, 1))
            self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), logits, nn.Flatten())

    @property
    def positions(self) -> list[nn.Parameter]:
        """The learned positions, which no image passes."""
        return [self.head.positions] if isinstance(self.head, AttentionPool) else []

    def forward(self, images: Tensor, time: Tensor) -> Tensor:
        maps, _, _ = self.descend(images, time)
        out: Tensor = self.head(F.silu(self.norm(maps[-1])))
        return out
