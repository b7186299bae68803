"""A learned vector for each of the 256 levels, of which similar levels share a part."""

import math

import torch
from torch import Tensor, nn

from genbench.images import LEVELS


def waves(count: int) -> Tensor:
    """x = -1 to 1 for the levels, and `count` sines and cosines of it from two periods up: (256, 1 + 2 count)."""
    x = torch.linspace(-1, 1, LEVELS)[:, None]
    angles = x * math.pi * 2.0 ** torch.arange(-1, count - 1)
    return torch.cat([x, angles.sin(), angles.cos()], dim=1)


class Levels(nn.Module):
    """A learned vector for each level of each of `held` sub-pixels, (held, 256, channels).

    It is the sum of an entry of a table and a linear map of the level's `waves`. The map is what similar levels share;
    by a table alone, which is what is left with 0 waves, each level is learned from the few pixels that have it.
    """

    waves: Tensor

    def __init__(self, held: int, channels: int, count: int, table_std: float, map_std: float) -> None:
        super().__init__()
        self.table = nn.Parameter(table_std * torch.randn(held, LEVELS, channels))
        self.map = nn.Parameter(map_std * torch.randn(held, 1 + 2 * count, channels)) if count else None
        self.register_buffer("waves", waves(count), persistent=False)

    def forward(self, which: slice = slice(None)) -> Tensor:
        """The vectors of the sub-pixels `which`."""
        free = self.table[which]
        return free if self.map is None else free + self.waves @ self.map[which]
