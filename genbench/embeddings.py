"""Times and labels as vectors, for the networks they steer."""

import math

import torch
from torch import Tensor, nn


def sinusoidal(time: Tensor, dims: int, longest: float = 10_000.0) -> Tensor:
    """Sines and cosines (B, dims) of times (B,) at geometrically spaced frequencies (Vaswani et al. 2017)."""
    half = dims // 2
    frequencies = torch.exp(torch.arange(half, device=time.device) * (-math.log(longest) / half))
    angles = time.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class TimeEmbedding(nn.Module):
    """Times (B,), ideally between 0 and 1,000, to vectors (B, dims): sinusoids, then a two-layer network.

    Raises ValueError for an odd number of sinusoids.
    """

    def __init__(self, dims: int, frequencies: int) -> None:
        super().__init__()
        if frequencies % 2:
            raise ValueError(f"widths: {frequencies} is odd; sines and cosines of the time take an even first width")
        self.frequencies = frequencies
        self.net = nn.Sequential(nn.Linear(frequencies, dims), nn.SiLU(), nn.Linear(dims, dims))

    def forward(self, time: Tensor) -> Tensor:
        embedded: Tensor = self.net(sinusoidal(time, self.frequencies))
        return embedded


class LabelEmbedding(nn.Module):
    """Labels, int64 (B,), to vectors (B, dims); with `num_classes` = 0 there are no labels and the vectors are zero.

    Raises ValueError if classes are expected and no labels are given.
    """

    def __init__(self, num_classes: int, dims: int) -> None:
        super().__init__()
        self.dims = dims
        self.table = nn.Embedding(num_classes, dims) if num_classes else None

    def forward(self, like: Tensor, labels: Tensor | None) -> Tensor:
        """`like` gives the batch size, the device and the dtype of the zeros."""
        if self.table is None:
            return like.new_zeros(len(like), self.dims)
        if labels is None:
            raise ValueError("a network with classes needs labels")
        embedded: Tensor = self.table(labels)
        return embedded
