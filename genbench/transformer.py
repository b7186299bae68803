"""Transformer blocks over tokens that attend to each other and to a context, and an encoder of text; no images."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Context:
    """What attention sees beside its own tokens, (B, M, D); of these only the `real` ones, bool (B, M), if given."""

    tokens: Tensor
    real: Tensor | None = None


class TokenAttention(nn.Module):
    """Tokens (B, N, channels) attend to a context of `context` channels, possibly themselves (Vaswani et al. 2017)."""

    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(context, channels, bias=False)
        self.value = nn.Linear(context, channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor, context: Context) -> Tensor:
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(tokens), self.key(context.tokens), self.value(context.tokens))
        )
        real = None if context.real is None else context.real[:, None, None]
        out: Tensor = self.out(F.scaled_dot_product_attention(query, key, value, real).transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """Each token (B, N, channels) separately through four times as many gated units (GEGLU, Shazeer 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.widen = nn.Linear(channels, 8 * channels)
        self.narrow = nn.Linear(4 * channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        values, gates = self.widen(tokens).chunk(2, dim=-1)
        out: Tensor = self.narrow(values * F.gelu(gates))
        return out


class TransformerBlock(nn.Module):
    """Self-attention, attention to the context and a feed-forward layer, each a residual branch with its own norm.

    Source: Rombach et al. 2022, appendix E.2.1 with one block (depth 1).
    """

    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(channels) for _ in range(3)])
        self.own = TokenAttention(channels, channels, heads)
        self.cross = TokenAttention(channels, context, heads)
        self.feed_forward = FeedForward(channels)

    def forward(self, tokens: Tensor, context: Context) -> Tensor:
        first, second, third = self.norms
        normed = first(tokens)
        tokens = tokens + self.own(normed, Context(normed))
        tokens = tokens + self.cross(second(tokens), context)
        out: Tensor = tokens + self.feed_forward(third(tokens))
        return out


class WordBlock(nn.Module):
    """Self-attention of the real tokens and a feed-forward layer, each a residual branch with its own norm."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(channels) for _ in range(2)])
        self.own = TokenAttention(channels, channels, heads)
        self.feed_forward = FeedForward(channels)

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        first, second = self.norms
        normed = first(tokens)
        tokens = tokens + self.own(normed, Context(normed, real))
        out: Tensor = tokens + self.feed_forward(second(tokens))
        return out


WORD_CHANNELS = 32
"""Channels of an attention head over words."""


class Words(nn.Module):
    """Text as a context (B, L + 1, `channels`): the first token is that of the whole text, the others its words.

    Text is int64 (B, L), numbers of words below `size` and 0 behind the last; or, with `encoded` channels, (B, L, D) of
    a frozen encoder, and zeros behind the last. What stands behind the end changes nothing, and an empty text is the
    first token alone. Trained along with the network that it steers, as in Rombach et al. 2022, section 4.3.1.
    """

    def __init__(self, size: int, length: int, channels: int, encoded: int = 0, blocks: int = 2) -> None:
        super().__init__()
        self.table = nn.Linear(encoded, channels) if encoded else nn.Embedding(size, channels)
        self.whole = nn.Parameter(torch.zeros(channels))
        self.places = nn.Parameter(torch.randn(length, channels) * 0.1)
        heads = max(1, channels // WORD_CHANNELS)
        self.blocks = nn.ModuleList(WordBlock(channels, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(channels)

    def forward(self, text: Tensor) -> Context:
        real = text.abs().sum(2) > 0 if text.dim() == 3 else text > 0
        tokens = self.table(text) + self.places[: text.shape[1]]
        tokens = torch.cat([self.whole.expand(len(text), 1, -1), tokens], 1)
        real = F.pad(real, (1, 0), value=True)
        for block in self.blocks:
            tokens = block(tokens, real)
        return Context(self.norm(tokens), real)
