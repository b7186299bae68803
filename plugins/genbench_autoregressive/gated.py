"""The gated convolutions of a PixelCNN, for whole images and place by place (van den Oord et al. 2016, section 2)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.embeddings import LabelEmbedding


def groups_of(channels: int, groups: int) -> Tensor:
    """The group of each channel, int64 (channels,), ascending, in shares as equal as possible."""
    return torch.arange(channels) * groups // channels


def gate(x: Tensor, dim: int = 1) -> Tensor:
    """tanh of the first half of the channels, (B, 2C, ...), times the sigmoid of the second (equation 2)."""
    signal, opening = x.chunk(2, dim)
    return signal.tanh() * opening.sigmoid()


class Above(nn.Conv2d):
    """A convolution that sees rows r - n // 2 to r of its input (B, C, h, w) at row r, or to r - 1 if `strictly`.

    Strict in the first layer, it makes features of a row that know only the pixels above it.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, strictly: bool = False) -> None:
        super().__init__(inputs, outputs, (kernel // 2 + (not strictly), kernel))
        self.strictly = int(strictly)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.kernel_size
        padded = F.pad(x, (0, 0, rows - 1 + self.strictly, -self.strictly))
        return F.conv2d(padded, self.weight, self.bias, padding=(0, columns // 2))

    def row(self, window: Tensor) -> Tensor:
        """A row (B, outputs, 1, w) of the output, from the newest rows that it sees, (B, inputs, rows, w)."""
        return F.conv2d(window, self.weight, self.bias, padding=(0, self.kernel_size[1] // 2))


class Before(nn.Conv2d):
    """A convolution that sees the n // 2 places to the left, and of its own place the groups up to an output's group.

    If `strictly`, it sees only the groups before that (the paper's mask A, otherwise mask B). The mask is part of the
    product, so nothing that an optimizer does to a masked weight has any effect. `halves` = 2 for outputs to `gate`.
    """

    mask: Tensor

    def __init__(
        self, inputs: int, outputs: int, kernel: int, groups: int, strictly: bool = False, halves: int = 1
    ) -> None:
        super().__init__(inputs, outputs, (1, kernel // 2 + 1))
        reach = groups_of(outputs // halves, groups).repeat(halves) - int(strictly)
        mask = torch.ones_like(self.weight)
        mask[:, :, 0, -1] = (groups_of(inputs, groups) <= reach[:, None]).to(mask.dtype)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (self.kernel_size[1] - 1, 0)), self.weight * self.mask, self.bias)

    def at_a_place(self) -> Callable[[Tensor], Tensor]:
        """A function from inputs at the places seen, (B, inputs, places), to the output at the last, (B, outputs)."""
        weight = (self.weight * self.mask).flatten(1)
        return lambda window: F.linear(window.flatten(1), weight, self.bias)


class GatedLayer(nn.Module):
    """One layer of the two stacks: `above` has features of the rows above, `before` also of the row so far (figure 2).

    What `above` knows reaches `before` ahead of both gates. Labels are added there too, the same at all places
    (equation 4). Only `before` has a residual connection, and not in the first layer, which is `strictly` masked.
    """

    def __init__(
        self, inputs: int, width: int, kernel: int, groups: int, num_classes: int = 0, strictly: bool = False
    ) -> None:
        super().__init__()
        self.strictly = strictly
        self.above = Above(inputs, 2 * width, kernel, strictly)
        self.across = nn.Conv2d(2 * width, 2 * width, 1)
        self.before = Before(inputs, 2 * width, kernel, groups, strictly, halves=2)
        self.out = Before(width, width, 1, groups)
        self.label = LabelEmbedding(num_classes, 4 * width)

    def forward(self, above: Tensor, before: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Both stacks' features, (B, C, h, w) each, from those of the layer before, and labels (B,)."""
        rows, given = self.rows(self.above(above), labels)
        out = self.out(gate(self.before(before) + given))
        return rows, out if self.strictly else before + out

    def rows(self, seen: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the next layer gets, (B, C, h, w), and what `before` gets, (B, 2C, h, w), of what `above` has seen."""
        ahead, beside = self.label(seen, labels)[..., None, None].chunk(2, dim=1)
        seen = seen + ahead
        return gate(seen), self.across(seen) + beside

    def at_a_place(self) -> Callable[[Tensor, Tensor], Tensor]:
        """A function from `before` at the places seen, (B, C, places), and given (B, 2C), to features (B, C)."""
        before, out = self.before.at_a_place(), self.out.at_a_place()

        def features(window: Tensor, given: Tensor) -> Tensor:
            change = out(gate(before(window) + given))
            return change if self.strictly else window[..., -1] + change

        return features
