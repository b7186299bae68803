"""A classifier of noised images, or latents: the half of a U-Net on the way down, and logits of its coarsest map.

Source: Dhariwal & Nichol 2021, section 4 and appendix I.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.devices import for_attention
from genbench.nets import Descent, Size, UNetSpec, group_norm, latent_size

Pool = Literal["mean", "attention"]


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
            self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, spec.out_channels))

    @property
    def positions(self) -> list[nn.Parameter]:
        """The learned positions, which no image passes."""
        return [self.head.positions] if isinstance(self.head, AttentionPool) else []

    def forward(self, images: Tensor, time: Tensor) -> Tensor:
        maps, _, _ = self.descend(images, time)
        out: Tensor = self.head(F.silu(self.norm(maps[-1])))
        return out
