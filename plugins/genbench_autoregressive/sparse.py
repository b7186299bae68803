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
"""Weights start with variance 0.125 / inputs (Child et al. 2019, section 6, as the authors' later code has it)."""


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
    al. 2019, section 4.3.
    """

    band: Tensor | None

    def __init__(self, channels: int, heads: int, pattern: Pattern, stride: int, tokens: int) -> None:
        super().__init__()
        self.heads, self.pattern, self.stride, self.tokens = heads, pattern, stride, tokens
        self.parts = [channels // 2, channels // 2, channels]
        self.qkv = nn.Linear(channels, sum(self.parts))
        self.out = nn.Linear(channels, channels)
        self.register_buffer("band", band(stride) if pattern == "local" else None, persistent=False)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        query, key, value = (
            part.view(*part.shape[:2], self.heads, part.shape[2] // self.heads)
            for part in torch.split(self.qkv(tokens), self.parts, dim=2)
        )
        if cache is not None:
            mixed = self.step(query, key, value, cache)
        elif self.pattern == "local":
            mixed = self.local(query, key, value)
        elif self.pattern == "strided":
            mixed = self.strided(query, key, value)
        else:
            mixed = attend(*(x.transpose(1, 2) for x in (query, key, value))).transpose(1, 2)
        out: Tensor = self.out(mixed.reshape(tokens.shape))
        return out

    def local(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Each row's tokens against those of their own and of the previous row, masked to the band."""

        def rows(x: Tensor) -> Tensor:
            """(B, T, heads, c) as (B, rows, heads, stride, c)."""
            return x.view(len(x), -1, self.stride, *x.shape[2:]).transpose(2, 3)

        def two_rows(x: Tensor) -> Tensor:
            own = rows(x)
            return torch.cat([F.pad(own[:, :-1], (0, 0) * 3 + (1, 0)), own], dim=3).flatten(1, 2)

        assert self.band is not None
        first, later = self.band
        mask = torch.cat([first[None], later.expand(self.tokens // self.stride - 1, -1, -1)])
        mask = mask.repeat_interleave(self.heads, 0)[None]
        mixed = attend(rows(query).flatten(1, 2), two_rows(key), two_rows(value), mask=mask)
        return mixed.view(len(mixed), -1, self.heads, *mixed.shape[2:]).transpose(2, 3)

    def strided(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Each column's tokens among themselves."""

        def columns(x: Tensor) -> Tensor:
            """(B, T, heads, c) as (B, stride x heads, rows, c)."""
            return x.view(len(x), -1, self.stride, *x.shape[2:]).permute(0, 2, 3, 1, 4).flatten(1, 2)

        return attend(columns(query), columns(key), columns(value)).transpose(1, 2)

    def step(self, query: Tensor, key: Tensor, value: Tensor, cache: Cache) -> Tensor:
        """The attention of one more token, each (B, 1, heads, c), to those in the cache."""
        known = cache.extend(torch.cat([key, value], dim=3).transpose(1, 2))
        keys, values = torch.split(known, [key.shape[3], value.shape[3]], dim=3)
        return F.scaled_dot_product_attention(query.transpose(1, 2), keys, values)

    @property
    def cached(self) -> int:
        """Numbers that are kept for each sequence while tokens come one at a time."""
        return self.cache().slots * sum(self.parts[1:])

    def cache(self) -> Cache:
        """An empty one for a sequence of tokens."""
        return Cache(self.pattern, self.stride, self.tokens)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention (B, N, L, c) within the mask, or, without one, to no later position."""
    query, key, value = (for_attention(x) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)


def band(stride: int) -> Tensor:
    """Which tokens of the row before and of its own a token attends to, in the first row and in a later one.

    Bool (2, stride, 2 stride).
    """
    query, key = torch.arange(stride)[:, None], torch.arange(2 * stride)
    later = (key > query) & (key <= query + stride)
    return torch.stack([later & (key >= stride), later])


class SparseBlock(nn.Module):
    """Attention and a feed-forward layer, each a residual branch behind a layer norm: h = x + a(x), h + b(h).

    `depth` is the number of blocks: the last layers of both branches start smaller by sqrt(2 depth). Source: Child et
    al. 2019, section 5.2; x sigmoid(1.702 x) as GELU: Hendrycks & Gimpel 2016.
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
