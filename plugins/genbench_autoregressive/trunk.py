"""The layers of a Gated PixelCNN below its output, in one pass for known images and step by step for new ones."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.images import to_float
from genbench_autoregressive.gated import Before, GatedLayer
from genbench_autoregressive.levels import Levels
from genbench_autoregressive.order import Order, Place
from genbench_autoregressive.settings import GatedConfig


class Trunk(nn.Module):
    """Levels (B, h, w, G) to features (B, h, w, G, `head`): those of a sub-pixel know only the sub-pixels before it.

    Gated layers, then ReLU, a 1x1 convolution and ReLU.
    """

    def __init__(self, order: Order, config: GatedConfig, num_classes: int) -> None:
        super().__init__()
        self.order, groups, width = order, order.groups, config.width
        scale = 0.0 if config.waves else 1.0
        self.levels = Levels(1, config.embedding, config.waves, scale, 0.3) if config.embedding else None
        first = GatedLayer(
            groups * (config.embedding or 1), width, config.first_kernel, groups, num_classes, strictly=True
        )
        rest = [GatedLayer(width, width, config.kernel, groups, num_classes) for _ in range(config.layers - 1)]
        self.layers = nn.ModuleList([first, *rest])
        self.last = Before(width, groups * config.head, 1, groups)

    def forward(self, levels: Tensor, labels: Tensor | None = None) -> Tensor:
        above = before = self.embedder()(levels).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            above, before = layer(above, before, labels)
        features = F.relu(self.last(F.relu(before))).permute(0, 2, 3, 1)
        return features.reshape(*levels.shape, -1)

    def embedder(self) -> Callable[[Tensor], Tensor]:
        """A function from levels (..., G) to what the first layer sees of them, the features of each in turn."""
        if self.levels is None:
            return lambda levels: to_float(levels).to(self.last.weight.dtype)
        vectors = self.levels()[0]
        return lambda levels: F.embedding(levels, vectors).flatten(-2)


class Walk:
    """The same features place by place while n images are drawn, at the cost of what is new.

    Features of the rows above are computed once per row, from the few newest rows that each layer sees; those of a
    place once per sub-pixel, from the few newest places.
    """

    def __init__(self, trunk: Trunk, n: int, labels: Tensor | None) -> None:
        self.trunk, self.labels = trunk, labels
        self.layers: list[GatedLayer] = list(trunk.layers)  # type: ignore[arg-type]
        like, width = trunk.last.weight, trunk.order.size[1]
        rows, places = ([getattr(layer, stack) for layer in self.layers] for stack in ("above", "before"))
        self.rows = [like.new_zeros(n, conv.in_channels, conv.kernel_size[0], width) for conv in rows]
        self.places = [like.new_zeros(n, conv.in_channels, conv.kernel_size[1]) for conv in places]
        self.steps = [layer.at_a_place() for layer in self.layers]
        self.embed, self.last = trunk.embedder(), trunk.last.at_a_place()
        self.given: list[Tensor] = []

    def features(self, levels: Tensor, place: Place) -> Tensor:
        """Those of a sub-pixel, (n, `head`), given levels (n, h, w, G); call it for all sub-pixels in order."""
        row, column, group = place
        if group == 0 and column == 0:
            self._begin_row(levels, row)
        if group == 0:
            self._begin_place(levels, row, column)
        x = self.embed(levels[:, row, column])
        for step, window, given in zip(self.steps, self.places, self.given):
            window[..., -1] = x
            x = step(window, given[..., column])
        features = F.relu(self.last(F.relu(x)))
        return features.view(len(levels), self.trunk.order.groups, -1)[:, group]

    def _begin_row(self, levels: Tensor, row: int) -> None:
        """Move the newest rows by one, and see what is above the new row."""
        newest = self.embed(levels[:, row - 1]).mT if row else torch.zeros_like(self.rows[0][:, :, 0])
        self.given = []
        for index, layer in enumerate(self.layers):
            self.rows[index] = torch.cat([self.rows[index][:, :, 1:], newest[:, :, None]], dim=2)
            features, given = layer.rows(layer.above.row(self.rows[index]), self.labels)
            newest = features[:, :, 0]
            self.given.append(given[:, :, 0])
        for window in self.places:
            window.zero_()

    def _begin_place(self, levels: Tensor, row: int, column: int) -> None:
        """Move the newest places by one; of the one before, the first layer has not yet seen the last sub-pixel."""
        if column:
            self.places[0][..., -1] = self.embed(levels[:, row, column - 1])
            self.places = [F.pad(window[..., 1:], (0, 1)) for window in self.places]
