"""Times, labels and words as vectors, for the networks they steer."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.transformer import Context


def sinusoidal(time: Tensor, dims: int, longest: float = 10_000.0) -> Tensor:
    """Sines and cosines (B, dims) of times (B,) at geometrically spaced frequencies (Vaswani et al. 2017)."""
    half = dims // 2
    frequencies = torch.exp(torch.arange(half, device=time.device) * (-math.log(longest) / half))
    angles = time.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def check_sinusoids(count: int, option: str = "widths") -> None:
    """Raise ValueError, naming the option, for an odd number of sines and cosines of a time."""
    if count % 2:
        raise ValueError(f"{option}: {count} is odd; sines and cosines of the time take an even first width")


class TimeEmbedding(nn.Module):
    """Times (B,), ideally between 0 and 1,000, to vectors (B, dims): sinusoids, then a two-layer network.

    Raises ValueError for an odd number of sinusoids.
    """

    def __init__(self, dims: int, frequencies: int) -> None:
        super().__init__()
        check_sinusoids(frequencies)
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


WORD_WIDTH = 64
"""Dimensions of a word, and of each direction's state."""


class Words(nn.Module):
    """Text as a context (B, L + 1, `channels`): the first token is that of the whole text, the others its words.

    Text is int64 (B, L), numbers of words below `size` and 0 behind the last, which recurrent networks read in both
    directions; or, `encoded` in so many channels by a frozen encoder, (B, L, D) and zeros behind the last, of which the
    mean stands for the whole. What is behind the end changes nothing, and a text may be empty. Source: Xu et al. 2018,
    section 3.1, with gated units (Cho et al. 2014).
    """

    def __init__(self, size: int, channels: int, encoded: int = 0) -> None:
        super().__init__()
        self.encoded = encoded
        if encoded:
            self.table: nn.Module = nn.Linear(encoded, 2 * WORD_WIDTH)
        else:
            self.table = nn.Embedding(size, WORD_WIDTH)
            self.ahead, self.back = (nn.GRU(WORD_WIDTH, WORD_WIDTH, batch_first=True) for _ in range(2))
        self.empty = nn.Parameter(torch.zeros(2 * WORD_WIDTH))
        self.out = nn.Linear(2 * WORD_WIDTH, channels)

    def forward(self, text: Tensor) -> Context:
        real = text.abs().sum(2) > 0 if self.encoded else text > 0
        whole, words = self.mean(text, real) if self.encoded else self.read(text, real)
        whole = whole.where(real.any(1, keepdim=True), self.empty.to(whole.dtype))
        return Context(self.out(torch.cat([whole[:, None], words], 1)), F.pad(real, (1, 0), value=True))

    def mean(self, text: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Encoded words (B, L, 2 WORD_WIDTH) and their mean."""
        words: Tensor = self.table(text)
        shares = real / real.sum(1, keepdim=True).clamp(min=1)
        return (words * shares[..., None].to(words.dtype)).sum(1), words

    def read(self, text: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """The states of both directions at each word, (B, L, 2 WORD_WIDTH), and their last ones."""
        words, last = self.table(text), (real.sum(1, keepdim=True) - 1).clamp(min=0)
        reverse = (last - torch.arange(text.shape[1], device=text.device)).clamp(min=0)
        ahead, back = self.ahead(words)[0], self.back(taken(words, reverse))[0]
        whole = torch.cat([taken(states, last)[:, 0] for states in (ahead, back)], 1)
        return whole, torch.cat([ahead, taken(back, reverse)], 2)


def taken(tokens: Tensor, places: Tensor) -> Tensor:
    """Of tokens (B, L, D) those at places (B, M)."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2]))
