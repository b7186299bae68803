"""The network of the Sparse Transformer: levels as tokens, the blocks, and the levels of the next token."""

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.embeddings import LabelEmbedding
from genbench.images import LEVELS
from genbench_autoregressive.order import Order, Place, categorical
from genbench_autoregressive.sparse import Pattern, SparseAttention, SparseBlock, gelu

EMBEDDING_STD = 0.01
"""Of embeddings at first."""


@dataclass(frozen=True)
class SparseSpec:
    """The settings of a `SparseNet`.

    A token holds `held` successive sub-pixels of a place: one of them, or all. The blocks' attention has the `patterns`
    in turn. `head` is the number of features from which the levels within a token are predicted, if it holds several.
    """

    held: int
    width: int
    blocks: int
    heads: int
    hidden: int
    patterns: tuple[Pattern, ...]
    head: int = 0
    dropout: float = 0.0
    num_classes: int = 0


class Values(nn.Module):
    """The sum of embeddings of the levels (..., n) of the first n sub-pixels in a token, each with its own table."""

    def __init__(self, held: int, channels: int) -> None:
        super().__init__()
        self.table = nn.Embedding(held * LEVELS, channels)
        nn.init.normal_(self.table.weight, std=EMBEDDING_STD)

    def each(self, levels: Tensor) -> Tensor:
        """The embeddings before they are summed, (..., n, channels)."""
        tables = torch.arange(0, LEVELS * levels.shape[-1], LEVELS, device=levels.device)
        embedded: Tensor = self.table(levels + tables)
        return embedded

    def forward(self, levels: Tensor) -> Tensor:
        return self.each(levels).sum(-2)


class NextValue(nn.Module):
    """Logits (..., 256) of the one level that a token holds; they start at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.read = nn.Linear(channels, LEVELS, bias=False)
        nn.init.zeros_(self.read.weight)

    def forward(self, features: Tensor, levels: Tensor) -> Tensor:
        logits: Tensor = self.read(features)
        return logits[..., None, :]

    def step(self, features: Tensor, known: Tensor) -> Tensor:
        logits: Tensor = self.read(features)
        return logits


class NextValues(NextValue):
    """Logits (..., held, 256) of the levels that a token holds, each given those before it; they start at zero.

    Level k is read from f(W h + c_k + sum_{j<k} E_j[x_j]) by the same layer for all k: a NADE (Larochelle & Murray
    2011) that is conditioned on the features h (..., channels) of the tokens before.
    """

    def __init__(self, channels: int, held: int, hidden: int) -> None:
        super().__init__(hidden)
        self.features = nn.Linear(channels, hidden)
        self.known = Values(held - 1, hidden)
        self.place = nn.Parameter(torch.zeros(held, hidden))

    def forward(self, features: Tensor, levels: Tensor) -> Tensor:
        known = F.pad(self.known.each(levels[..., :-1]).cumsum(-2), (0, 0, 1, 0))
        logits: Tensor = self.read(gelu(self.features(features)[..., None, :] + self.place + known))
        return logits

    def step(self, features: Tensor, known: Tensor) -> Tensor:
        """Logits (B, 256) of the level after the `known` ones (B, k) of a token with features (B, channels)."""
        hidden = self.features(features) + self.place[known.shape[-1]] + self.known(known)
        logits: Tensor = self.read(gelu(hidden))
        return logits


class SparseNet(nn.Module):
    """Folded levels (B, h, w, G), and labels (B,) if it has classes, to logits (B, h, w, G, 256) by teacher forcing.

    The blocks see a start token and all tokens but the last. A token is the sum of the learned embeddings of its
    levels, its row, its column and, if it is one of several at a place, which; the class is added to each. Source:
    Child et al. 2019, section 5.
    """

    def __init__(self, order: Order, spec: SparseSpec) -> None:
        super().__init__()
        (rows, columns), parts, width = order.size, order.groups // spec.held, spec.width
        self.order, self.held, self.tokens = order, spec.held, rows * columns * parts
        self.values = Values(spec.held, width)
        sizes = [(rows, 1, 1), (1, columns, 1), (1, 1, parts)][: 3 if parts > 1 else 2]
        self.axes = nn.ParameterList()
        for size in sizes:
            self.axes.append(nn.Parameter(EMBEDDING_STD * len(sizes) ** -0.5 * torch.randn(*size, width)))
        self.start = nn.Parameter(EMBEDDING_STD * torch.randn(1, width))
        self.label = LabelEmbedding(spec.num_classes, width)
        self.blocks = nn.ModuleList()
        for index in range(spec.blocks):
            pattern = spec.patterns[index % len(spec.patterns)]
            attention = SparseAttention(width, spec.heads, pattern, columns * parts, self.tokens)
            self.blocks.append(SparseBlock(attention, width, spec.hidden, spec.blocks, spec.dropout))
        self.norm = nn.LayerNorm(width)
        self.head = NextValues(width, spec.held, spec.head) if spec.held > 1 else NextValue(width)

    def forward(self, levels: Tensor, labels: Tensor | None = None) -> Tensor:
        held = self.holding(levels)
        known = self.values(held[:, :-1]) + self.positions()[:-1]
        tokens = torch.cat([self.start.expand(len(levels), 1, -1), known], dim=1)
        tokens = tokens + self.label(tokens[:, 0], labels)[:, None]
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(self.norm(tokens), held)
        return logits.view(*levels.shape, LEVELS)

    def tables(self) -> list[nn.Parameter]:
        """The embeddings and the last layer, whose rows or columns are levels, places and classes."""
        owners = [self.values, self.axes, self.label, self.head]
        return [self.start, *(p for owner in owners for p in owner.parameters())]

    def holding(self, levels: Tensor) -> Tensor:
        """Folded levels by the tokens that hold them, (B, T, held)."""
        return levels.reshape(len(levels), -1, self.held)

    def positions(self) -> Tensor:
        """The embeddings of all tokens' places, (T, channels)."""
        return reduce(torch.add, self.axes).flatten(0, -2)


class Continuation:
    """The logits of `SparseNet.forward` for one sub-pixel after another, at the cost of each token once.

    What attention needs of the tokens before is kept from call to call.
    """

    def __init__(self, net: SparseNet, labels: Tensor | None = None) -> None:
        self.net, self.labels = net, labels
        self.caches = [block.attention.cache() for block in net.blocks]
        self.positions = net.positions()

    def logits(self, levels: Tensor, place: Place) -> Tensor:
        """Logits (B, 256) at a `place`, given the levels before it in folded ones (B, h, w, G); call it in order."""
        row, column, group = place
        index = (row * levels.shape[2] + column) * levels.shape[3] + group
        token, done = divmod(index, self.net.held)
        held = self.net.holding(levels)
        if done == 0:
            self.features = self.next(held, token)
        return self.net.head.step(self.features, held[:, token, :done])

    def draw(self, levels: Tensor, place: Place, uniform: Tensor) -> Tensor:
        """A draw of the level at `place`, int64 (B,): see `Order.generate`."""
        return categorical(self.logits(levels, place), uniform)

    def next(self, held: Tensor, token: int) -> Tensor:
        """The features (B, channels) from which token `token` is predicted."""
        net = self.net
        if token == 0:
            last = net.start.expand(len(held), -1)
        else:
            last = net.values(held[:, token - 1]) + self.positions[token - 1]
        last = (last + net.label(last, self.labels))[:, None]
        for block, cache in zip(net.blocks, self.caches):
            last = block(last, cache)
        features: Tensor = net.norm(last)[:, 0]
        return features
