"""Sparse Transformer: the exact probability of an image's levels, token after token (Child et al. 2019)."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from genbench import Batch, DataSpec, Model, Phase, field, hookimpl
from genbench.images import bits_per_dim, to_float, to_uint8
from genbench.optimization import OptimizerConfig
from genbench_autoregressive.order import Order, in_pieces, pieces
from genbench_autoregressive.sparse import Pattern
from genbench_autoregressive.sparse_network import Continuation, SparseNet, SparseSpec

NETWORK = ("width", "blocks", "heads", "hidden", "attention", "head", "waves", "dropout")
"""The options that a `SparseSpec` takes as they are."""
CACHED = 2**30
"""How many keys and values are kept when samples are drawn: four gibibytes in float32."""


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(SparseTransformer)


class SparseTransformerConfig(OptimizerConfig):
    """The tokens, the blocks and the optimizer; the defaults are the preset `small`."""

    batch_size: int = field(8, "train", "images per update", ge=1)
    learning_rate: float = field(0.01, "train", "peak learning rate of AdamW", gt=0)
    weight_decay: float = field(
        0.0, "train", "weight decay of matrices and embeddings, decoupled from the gradient", ge=0
    )

    patch: int = field(2, "train", "side of the squares of pixels that are folded into places", ge=1)
    tokens: Literal["places", "values"] = field(
        "places", "train", "what the tokens are: places with all their values, or single values, as published"
    )
    width: int = field(64, "train", "channels of a token", ge=4)
    blocks: int = field(6, "train", "residual blocks: attention, then a feed-forward layer", ge=1)
    heads: int = field(2, "train", "attention heads", ge=1)
    hidden: int = field(128, "train", "channels within a feed-forward layer", ge=1)
    attention: tuple[Pattern, ...] = field(
        ("strided", "local", "local", "local"),
        "train",
        "what the blocks' attention sees, in turn: the column above, the last row of tokens, or all before",
        min_length=1,
    )
    head: int = field(
        64,
        "train",
        "features from which the values within a token are predicted",
        ge=1,
        only_with={"tokens": ["places"]},
    )
    waves: int = field(
        6,
        "train",
        "waves of a level, on which its embedding and logit depend beside a free table; 0 as published",
        ge=0,
        le=8,
    )
    dropout: float = field(0.0, "train", "dropout at the end of each residual branch", ge=0, lt=1)

    @model_validator(mode="after")
    def heads_divide_queries_and_values(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"heads: {self.heads} heads need a width that {2 * self.heads} divides, not {self.width}")
        return self

    def spec(self, order: Order, num_classes: int) -> SparseSpec:
        """The network that these settings describe."""
        held = order.groups if self.tokens == "places" else 1
        return SparseSpec(held, num_classes, **{name: getattr(self, name) for name in NETWORK})


class SparseTransformer(Model):
    """A transformer that predicts each level from those before it, by attention to a row and to a column of them."""

    name = "sparse_transformer"
    Config = SparseTransformerConfig
    config: SparseTransformerConfig
    conditional = True
    discrete = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"width": 16, "blocks": 2, "hidden": 32, "head": 16, "waves": 2},
        "small": {},
        "paper": {
            "patch": 1, "tokens": "values", "width": 256, "blocks": 128, "heads": 2, "hidden": 512, "waves": 0,
            "dropout": 0.25, "optimizer": "adamw", "batch_size": 16, "learning_rate": 3.5e-4, "betas": (0.9, 0.999),
            "warmup": 5000, "weight_decay": 0.01, "ema_decay": 0.999,
        },
    }  # fmt: skip

    def __init__(self, data: DataSpec, config: SparseTransformerConfig) -> None:
        super().__init__(data, config)
        self.order = Order(data.shape, config.patch)
        self.net = SparseNet(self.order, config.spec(self.order, data.num_classes))

    @property
    def nfe(self) -> int:
        """One evaluation a token, each of what is new since the one before."""
        return self.net.tokens

    def phases(self) -> list[Phase]:
        """Muon moves the matrices of linear layers alone; vectors do not decay."""
        c, net = self.config, self.net
        others = [p for m in net.modules() if not isinstance(m, nn.Linear) for p in m.parameters(recurse=False)]
        vectors = [p for p in net.parameters() if p.dim() == 1]
        return [c.phase("train", net, c.learning_rate, warmup=c.warmup, others=others, undecayed=vectors)]

    def loss(self, phase: str, batch: Batch) -> Tensor:
        return bits_per_dim(self.nats(batch.images, batch.labels), self.data.dims, discrete=True).mean()

    def nats(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """log P, nats per image (B,), of images that fit into memory together."""
        levels = self.order.fold(to_uint8(images))
        return self.order.log_prob(self.net(levels, labels), levels)

    def log_prob(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """log P of the levels of images (B, C, H, W), nats per image (B,)."""
        return in_pieces(self.nats, images, labels)

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        uniform = torch.rand(n, *self.order.size, self.order.groups, device=self.net.start.device)
        drawn = []
        for part in pieces(n, CACHED // sum(attention.cached for attention in self.net.attention())):
            continuation = Continuation(self.net, None if labels is None else labels[part])

            def report(share: float, done: int = part.start, count: int = len(uniform[part])) -> None:
                self.report((done + share * count) / n)

            drawn.append(self.order.generate(uniform[part], continuation.draw, report))
        return to_float(torch.cat(drawn))
