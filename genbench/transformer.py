"""A transformer block over tokens that attend to each other and to a context; it knows no images."""

from dataclasses import dataclass

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
