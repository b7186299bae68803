"""Autoregression in one pass: a value's density given those before it, from a masked network (Germain et al. 2015)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.condition import Given
from genbench_flow.layers import Constant
from genbench_flow.transforms import SCALE, Transform


class MaskedLinear(nn.Linear):
    """A linear map whose output o sees input i only if reach[o] >= degree[i]."""

    mask: Tensor

    def __init__(self, degree: Tensor, reach: Tensor, bias: bool = True) -> None:
        super().__init__(len(degree), len(reach), bias)
        self.register_buffer("mask", (reach[:, None] >= degree).to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """All outputs, or some of them."""
        bias = self.bias if self.bias is None else self.bias[rows]
        return F.linear(x, self.weight[rows] * self.mask[rows], bias)


class Autoregression(nn.Module):
    """Transforms x_1 ... x_D elementwise, x_i with parameters from the label and a masked network of x_1 ... x_(i-1).

    One pass forward, D passes back (Papamakarios et al. 2017, section 3). The hidden units have degrees 1 to D - 1: one
    of degree k sees x_1 ... x_k. x_1 has only a learned marginal, per class if there are classes, and moved by what is
    seen of the `shown` maps, at `size`, of a condition. Where a transform has a place, a linear map of the values
    before is added to it.
    """

    def __init__(
        self,
        dims: int,
        width: int,
        transform: Transform,
        num_classes: int,
        shown: int = 0,
        size: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        place, degree = torch.arange(1, dims + 1), 1 + torch.arange(width) % max(dims - 1, 1)
        each = transform.parameters_each
        self.transform = transform
        self.first = MaskedLinear(place, degree)
        self.labels = nn.Embedding(num_classes, width) if num_classes else None
        self.block = MaskedLinear(degree, degree)
        self.last = MaskedLinear(degree, (place - 1).repeat_interleave(each), bias=False)
        nn.init.zeros_(self.last.weight)
        self.linear = MaskedLinear(place, place - 1, bias=False) if transform.placed else None
        if self.linear is not None:
            nn.init.zeros_(self.linear.weight)
        self.marginal = Constant(dims * each, num_classes)
        self.size = size
        self.shown = nn.Linear(shown * math.prod(size), width) if shown else None
        self.of_shown = nn.Linear(width, dims * each, bias=False) if shown else None
        if self.of_shown is not None:
            nn.init.zeros_(self.of_shown.weight)

    def parameters_of(self, x: Tensor, given: Given, places: slice = slice(None)) -> Tensor:
        """Parameters (B, D, P) of the transforms of x (B, D, 1, 1), or of some of them, in the precision of x."""
        each = self.transform.parameters_each
        start, stop, _ = places.indices(x.shape[1])
        rows = slice(start * each, stop * each)
        values = x.flatten(1).to(self.first.weight.dtype) * SCALE
        h: Tensor = self.first(values)
        marginal = self.marginal(x, given).flatten(1)
        if self.labels is not None:
            h = h + self.labels(given)
        if self.shown is not None and self.of_shown is not None:
            seen = self.shown(given.maps(self.size).flatten(1).to(h.dtype) * SCALE)
            h, marginal = h + seen, marginal + self.of_shown(F.silu(seen))
        raw = self.last(F.silu(h + self.block(F.silu(h))), rows) + marginal[:, rows]
        if self.linear is not None:
            raw[:, ::each] += self.linear(values, places)
        parameters: Tensor = raw.to(x.dtype).view(len(x), stop - start, each)
        return parameters

    def forward(self, x: Tensor, labels: Given = None) -> tuple[Tensor, Tensor]:
        y, log_slope = self.transform(x.flatten(1), self.parameters_of(x, labels))
        return y.view_as(x), log_slope.sum(1)

    def inverse(self, y: Tensor, labels: Given = None) -> Tensor:
        x = torch.zeros_like(y)
        for place, index in enumerate(torch.arange(y.shape[1], device=y.device)[:, None]):
            only = slice(place, place + 1)
            known = self.parameters_of(x, labels, only)
            x = x.index_copy(1, index, self.transform.inverse(y[:, only, 0, 0], known)[:, :, None, None])
        return x


class Reversal(nn.Module):
    """Reverses the channels (B, D, 1, 1), so that the next autoregression begins where the last one ended."""

    def forward(self, x: Tensor, labels: Given = None) -> tuple[Tensor, Tensor]:
        return x.flip(1), x.new_zeros(len(x))

    def inverse(self, y: Tensor, labels: Given = None) -> Tensor:
        return y.flip(1)
