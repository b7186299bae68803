"""The network of the Sparse Transformer: levels as tokens, the blocks, and the levels of the next token."""

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.embeddings import LabelEmbedding
from genbench.images import LEVELS
from genbench_autoregressive.levels import Levels
from genbench_autoregressive.order import Order, Place, categorical
from genbench_autoregressive.sparse import Pattern, SparseAttention, SparseBlock, gelu

EMBEDDING_STD = 0.01
"""Of embeddings at first."""
MAP_STD = 0.1
"""Of the part of an embedding that is a linear map of waves, per wave."""


@dataclass(frozen=True)
class SparseSpec:
    """The settings of a `SparseNet`.

    A token holds `held` successive sub-pixels of a place: one of them, or all. The blocks' `attention` has these
    patterns in turn. If a token holds several levels, they are predicted from `head` features; `waves`: see `Levels`.
    """

    held: int
    num_classes: int
    width: int
    blocks: int
    heads: int
    hidden: int
    attention: tuple[Pattern, ...]
    head: int
    waves: int
    dropout: float


class Values(nn.Module):
    """Embeddings (..., n, channels) of the levels (..., n) of a token's successive sub-pixels, each with its own."""

    def __init__(self, held: int, channels: int, waves: int) -> None:
        super().__init__()
        self.levels = Levels(held, channels, waves, EMBEDDING_STD, MAP_STD)

    def forward(self, levels: Tensor, first: int = 0) -> Tensor:
        """Those of sub-pixels `first`, `first` + 1 and so on."""
        count = levels.shape[-1]
        tables = self.levels(slice(first, first + count)).flatten(0, 1)
        return F.embedding(levels + LEVELS * torch.arange(count, device=levels.device), tables)


class NextValue(nn.Module):
    """Logits (..., 1, 256) of the one level that a token holds, from features (..., channels); zero at first."""

    def __init__(self, channels: int, waves: int) -> None:
        super().__init__()
        self.levels = Levels(1, channels, waves, 0.0, 0.0)

    def forward(self, features: Tensor, levels: Tensor) -> Tensor:
        return self.read(features)[..., None, :]

    def read(self, hidden: Tensor) -> Tensor:
        """Logits (..., 256) of hidden features (..., channels)."""
        return F.linear(hidden, self.levels()[0])

    def begin(self, features: Tensor) -> Tensor:
        """What `predict` reads before any level of the token is known, (B, hidden)."""
        return features

    def predict(self, hidden: Tensor, place: int) -> Tensor:
        """Logits (B, 256) of the level at `place` within the token."""
        return self.read(hidden)

    def learn(self, hidden: Tensor, place: int, levels: Tensor) -> Tensor:
        """What `predict` reads once the levels (B,) at `place` are known too."""
        return hidden


class NextValues(NextValue):
    """Logits (..., held, 256) of the levels that a token holds, each given those before it; zero at first.

    Level k is read, by one layer for all k, from f(W h + c_k + sum_{j<k} E_j[x_j]): a NADE (Larochelle & Murray 2011)
    that is conditioned on the features h (..., channels) of the tokens before.
    """

    def __init__(self, channels: int, held: int, hidden: int, waves: int) -> None:
        super().__init__(hidden, waves)
        self.features = nn.Linear(channels, hidden)
        self.places = nn.Parameter(torch.zeros(held, hidden))
        self.known = Values(held - 1, hidden, waves)

    def forward(self, features: Tensor, levels: Tensor) -> Tensor:
        known = F.pad(self.known(levels[..., :-1]).cumsum(-2), (0, 0, 1, 0))
        hidden = self.begin(features)[..., None, :] + known
        return self.read(gelu(hidden + self.places))

    def begin(self, features: Tensor) -> Tensor:
        hidden: Tensor = self.features(features)
        return hidden

    def predict(self, hidden: Tensor, place: int) -> Tensor:
        return self.read(gelu(hidden + self.places[place]))

    def learn(self, hidden: Tensor, place: int, levels: Tensor) -> Tensor:
        known: Tensor = self.known(levels[:, None], place)
        return hidden + known[:, 0]


class SparseNet(nn.Module):
    """Folded levels (B, h, w, G), and labels (B,) if it has classes, to logits (B, h, w, G, 256) by teacher forcing.

    The blocks see a start token and all tokens but the last. A token is the sum of the learned embeddings of its
    levels, its row, its column and, if it is one of several at a place, which; the class is added to each. Source:
    Child et al. 2019, sections 5.2 and 5.3.
    """

    def __init__(self, order: Order, spec: SparseSpec) -> None:
        super().__init__()
        (rows, columns), parts, width = order.size, order.groups // spec.held, spec.width
        self.order, self.held, self.tokens = order, spec.held, rows * columns * parts
        self.values = Values(spec.held, width, spec.waves)
        sizes = [(rows, 1, 1), (1, columns, 1), (1, 1, parts)][: 3 if parts > 1 else 2]
        self.axes = nn.ParameterList()
        for size in sizes:
            self.axes.append(nn.Parameter(EMBEDDING_STD * len(sizes) ** -0.5 * torch.randn(*size, width)))
        self.start = nn.Parameter(EMBEDDING_STD * torch.randn(1, width))
        self.label = LabelEmbedding(spec.num_classes, width)
        self.blocks = nn.ModuleList()
        for index in range(spec.blocks):
            pattern = spec.attention[index % len(spec.attention)]
            attention = SparseAttention(width, spec.heads, pattern, columns * parts, self.tokens)
            self.blocks.append(SparseBlock(attention, width, spec.hidden, spec.blocks, spec.dropout))
        self.norm = nn.LayerNorm(width)
        if spec.held > 1:
            self.head: NextValue = NextValues(width, spec.held, spec.head, spec.waves)
        else:
            self.head = NextValue(width, spec.waves)

    def forward(self, levels: Tensor, labels: Tensor | None = None) -> Tensor:
        held = self.holding(levels)
        known = self.values(held[:, :-1]).sum(2) + self.positions()[:-1]
        tokens = torch.cat([self.start.expand(len(levels), 1, -1), known], dim=1)
        tokens = tokens + self.label(tokens[:, 0], labels)[:, None]
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(self.norm(tokens), held)
        return logits.view(*levels.shape, LEVELS)

    def attention(self) -> list[SparseAttention]:
        """That of each block."""
        return [module for module in self.blocks.modules() if isinstance(module, SparseAttention)]

    def holding(self, levels: Tensor) -> Tensor:
        """Folded levels by the tokens that hold them, (B, T, held)."""
        return levels.reshape(len(levels), -1, self.held)

    def positions(self) -> Tensor:
        """The embeddings of all tokens' places, (T, channels)."""
        embedded: Tensor = reduce(torch.add, self.axes)
        return embedded.flatten(0, -2)


class Continuation:
    """The logits of `SparseNet.forward` for one sub-pixel after another, at the cost of each token once.

    What attention needs of the tokens before is kept from call to call.
    """

    def __init__(self, net: SparseNet, labels: Tensor | None = None) -> None:
        self.net, self.labels = net, labels
        self.caches = [attention.cache() for attention in net.attention()]
        self.positions = net.positions()

    def logits(self, levels: Tensor, place: Place) -> Tensor:
        """Logits (B, 256) at a `place`, given the levels before it in folded ones (B, h, w, G); call it in order."""
        row, column, group = place
        index = (row * levels.shape[2] + column) * levels.shape[3] + group
        token, within = divmod(index, self.net.held)
        held, head = self.net.holding(levels), self.net.head
        if within == 0:
            self.hidden = head.begin(self.next(held, token))
        else:
            self.hidden = head.learn(self.hidden, within - 1, held[:, token, within - 1])
        return head.predict(self.hidden, within)

    def draw(self, levels: Tensor, place: Place, uniform: Tensor) -> Tensor:
        """A draw of the level at `place`, int64 (B,): see `Order.generate`."""
        return categorical(self.logits(levels, place), uniform)

    def next(self, held: Tensor, token: int) -> Tensor:
        """The features (B, channels) from which token `token` is predicted."""
        net = self.net
        if token == 0:
            last = net.start.expand(len(held), -1)
        else:
            last = net.values(held[:, token - 1]).sum(1) + self.positions[token - 1]
        last = (last + net.label(last, self.labels))[:, None]
        for block, cache in zip(net.blocks, self.caches):
            last = block(last, cache)
        features: Tensor = net.norm(last)[:, 0]
        return features
