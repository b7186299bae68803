"""The network of the Sparse Transformer: attention to a row and to a column of the tokens before, in residual blocks.

Tokens (B, T, channels) are in an order whose rows have `stride` tokens; T is a multiple of `stride`.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.devices import for_attention

Pattern = Literal["local", "strided", "full"]
"""What a token attends to: itself and the `stride` - 1 before it, each `stride`-th before it, or all before it."""
SMALL = 0.125
"""Weights start with variance 0.125 / inputs, section 5 of the paper."""


class Cache:
    """Keys and values of the tokens so far, as many as later tokens attend to, while tokens come one at a time."""

    def __init__(self, pattern: Pattern, stride: int, tokens: int) -> None:
        self.pattern, self.stride = pattern, stride
        self.slots = min(stride, tokens) if pattern == "local" else tokens
        self.kept: Tensor | None = None
        self.count = 0

    def extend(self, token: Tensor) -> Tensor:
        """Take the next token's (B, heads, 1, c); return those that it attends to, (B, heads, n, c), in any order."""
        if self.kept is None:
            self.kept = token.new_zeros(*token.shape[:2], self.slots, token.shape[3])
        place, self.count = self.count, self.count + 1
        self.kept[:, :, place % self.slots] = token[:, :, 0]
        if self.pattern == "strided":
            return self.kept[:, :, place % self.stride : place + 1 : self.stride]
        return self.kept[:, :, : min(self.count, self.slots)]


class SparseAttention(nn.Module):
    """Causal attention of tokens (B, T, channels) by one pattern; queries and keys have half the channels of values.

    Rows of tokens make the patterns dense: a column of the rows is what a strided token sees, and a token's band lies
    in its own row and the one before. So T * stride or T * T / stride scores are computed, not T * T. Source: Child et
    al. 2019, sections 4.3 and 5.
    """

    band: Tensor

    def __init__(self, channels: int, heads: int, pattern: Pattern, stride: int, tokens: int) -> None:
        super().__init__()
        self.heads, self.pattern, self.stride, self.tokens = heads, pattern, stride, tokens
        self.half = channels // 2
        self.qkv = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.register_buffer("band", band(tokens // stride, stride, heads), persistent=False)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        qkv = self.qkv(tokens)
        if cache is not None:
            return self.step(qkv, cache)
        mix = {"local": self.local, "strided": self.strided, "full": self.full}[self.pattern]
        out: Tensor = self.out(mix(*qkv.split((self.half, self.half, 2 * self.half), dim=2)))
        return out

    @property
    def cached(self) -> int:
        """Numbers that are kept for each sequence while tokens come one at a time."""
        return self.cache().slots * 3 * self.half

    def cache(self) -> Cache:
        """An empty one for a sequence of tokens."""
        return Cache(self.pattern, self.stride, self.tokens)

    def step(self, qkv: Tensor, cache: Cache) -> Tensor:
        """The attention of one more token, (B, 1, 2 channels), to those in the cache."""
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in qkv.split((self.half, self.half, 2 * self.half), dim=2)
        )
        keys, values = cache.extend(torch.cat([key, value], dim=3)).split((key.shape[3], value.shape[3]), dim=3)
        out: Tensor = self.out(F.scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2))
        return out

    def local(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Each row's tokens against those of their own and of the previous row, masked to the band."""

        def rows(x: Tensor) -> Tensor:
            return x.unflatten(1, (-1, self.stride)).unflatten(3, (self.heads, -1)).transpose(2, 3)

        def two_rows(x: Tensor) -> Tensor:
            own = rows(x)
            return torch.cat([F.pad(own[:, :-1], (0, 0) * 3 + (1, 0)), own], dim=3).flatten(1, 2)

        mixed = attend(rows(query).flatten(1, 2), two_rows(key), two_rows(value), mask=self.band)
        return mixed.unflatten(1, (-1, self.heads)).transpose(2, 3).flatten(3).flatten(1, 2)

    def strided(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Each column's tokens among themselves."""

        def columns(x: Tensor) -> Tensor:
            return x.unflatten(1, (-1, self.stride)).unflatten(3, (self.heads, -1)).permute(0, 2, 3, 1, 4).flatten(1, 2)

        mixed = attend(columns(query), columns(key), columns(value))
        return mixed.unflatten(1, (-1, self.heads)).permute(0, 3, 1, 2, 4).flatten(3).flatten(1, 2)

    def full(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """All tokens among themselves."""
        heads = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        return attend(*heads).transpose(1, 2).flatten(2)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention (B, N, L, c) within the mask, or, without one, to no later position."""
    query, key, value = (for_attention(x) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)


def band(rows: int, stride: int, heads: int) -> Tensor:
    """Which of the two rows' tokens a token attends to, bool (1, rows x heads, stride, 2 stride)."""
    query, key = torch.arange(stride)[:, None], torch.arange(2 * stride)
    mask = ((key > query) & (key <= query + stride)).repeat(rows, 1, 1)
    mask[0, :, :stride] = False  # there is no row before the first
    return mask.repeat_interleave(heads, 0)[None]


class SparseBlock(nn.Module):
    """Attention and a feed-forward layer, each a residual branch behind a layer norm: h = x + a(x), h + b(h).

    `depth` is the number of blocks: the last layers of both branches start smaller by sqrt(2 depth). Source: Child et
    al. 2019, section 5.1 and 5.2; x sigmoid(1.702 x) as GELU: Hendrycks & Gimpel 2016.
    """

    def __init__(self, attention: SparseAttention, channels: int, hidden: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = attention
        self.widen, self.narrow = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.dropout = nn.Dropout(dropout)
        for layer in (attention.qkv, self.widen):
            start(layer)
        for layer in (attention.out, self.narrow):
            start(layer, 1 / (2 * depth))

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        tokens = tokens + self.dropout(self.attention(self.norm1(tokens), cache))
        out: Tensor = tokens + self.dropout(self.narrow(gelu(self.widen(self.norm2(tokens)))))
        return out


def gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x), elementwise."""
    return x * torch.sigmoid(1.702 * x)


def start(layer: nn.Linear, scale: float = 1.0) -> None:
    """Draw the weights with variance `scale` x 0.125 / inputs, and set the biases to zero."""
    nn.init.normal_(layer.weight, std=math.sqrt(scale * SMALL / layer.in_features))
    nn.init.zeros_(layer.bias)
