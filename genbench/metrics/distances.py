"""Exact Euclidean distances between many features: float32 bounds them, and float64 decides what the bounds cannot."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


ROWS = 256
BAND = 1024
"""Rows of a symmetric matrix computed at once, from the diagonal on."""
GROUP = 16
SPARE = 8
"""Extra nearest candidates; if they do not suffice, the whole row is computed in float64."""
CHUNK = 2**18
"""Numbers gathered at once for exact distances, few enough for the CPU's cache."""
UNIT = 2.0**-24


class Distances:
    """Distances from the rows of `first` (N, d) to those of `second` (M, d), float64 in, float64 out.

    Squared distances are products of lifted float32 vectors, (x, |x|^2, 1).(-2y, 1, |y|^2), of centred and scaled
    features. Their rounding error is at most (d + 6) 2^-24 (|x| + |y|)^2, whatever the order of summation (Higham 2002,
    section 3.1), and beyond 8 sqrt(d) instead of d once in 10^13 (Higham and Mary 2019). Made smaller by `slack`,
    |x|^2 and |y|^2 give lower bounds. What the bounds leave open is decided by differences in float64, which neither a
    common offset nor ties can disturb.
    """

    def __init__(self, first: Tensor, second: Tensor) -> None:
        import torch

        self.symmetric = first is second
        self.first, self.second = first.contiguous(), second.contiguous()
        centre = second.mean(0)
        sides = [side - centre for side in (first, second)[: 1 if self.symmetric else 2]]
        norms = [torch.linalg.vector_norm(side, dim=1) for side in sides]
        self.scale = float(max(norm.max() for norm in norms)) or 1.0
        vectors = [side.div_(self.scale).float() for side in sides]
        squares = [(norm / self.scale).square() for norm in norms]
        slack = 2 * (8 + min(first.shape[1], 8 * math.sqrt(first.shape[1]))) * UNIT
        self.blur = [2 * slack * square for square in (squares[0], squares[-1])]
        """Added for the row and the column, it turns a lower bound into an upper bound."""
        low, ones = [(1 - slack) * square for square in squares], [torch.ones_like(square) for square in squares]
        self._rows = _lifted(vectors[0], low[0], ones[0])
        self._columns = _lifted(-2 * vectors[-1], ones[-1], low[-1]).T

    def turned(self) -> Distances:
        """The same distances, from `second` to `first`."""
        turned = copy.copy(self)
        turned.first, turned.second, turned.blur = self.second, self.first, self.blur[::-1]
        turned._rows, turned._columns = self._columns.T, self._rows.T
        return turned

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Blocks of rows: the first row's index, and lower bounds (rows, M) of squared distances over scale^2."""
        for start in range(0, len(self.first), ROWS):
            yield start, self._rows[start : start + ROWS] @ self._columns

    def nearest(self, count: int) -> tuple[Tensor, Tensor]:
        """The `count` smallest lower bounds (N, count) of each row, sorted, and their columns; all if M is less."""
        import torch

        if not self.symmetric:
            found = [smallest(block, count) for _, block in self.blocks()]
            return torch.cat([values for values, _ in found]), torch.cat([columns for _, columns in found])
        size = len(self.first)
        best = Nearest(size, min(count, size))
        for start in range(0, size, BAND):
            end = start + BAND
            block = self._rows[start:end] @ self._columns[:, start:]
            best.add(start, start, block)
            best.add(end, start, block[:, BAND:].T.contiguous())
        return best.values, best.columns

    def exact(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The distances of pairs, by differences in float64."""
        import torch

        found = []
        for i, j in zip(*(torch.split(index, max(1, CHUNK // self.first.shape[1])) for index in (rows, columns))):
            pair = self.first[i][:, None], self.second[j][:, None]
            found.append(torch.cdist(*pair, compute_mode="donot_use_mm_for_euclid_dist").flatten())
        return torch.cat(found) if found else self.first.new_empty(0)

    def inside(self, start: int, block: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns of the pairs of a block that are at most `radius` apart: (rows, 1) or (1, M), float64."""
        reach = (radius / self.scale).square()
        i, j = (block <= reach.float()).nonzero(as_tuple=True)
        limit, upper = reach.expand_as(block)[i, j], block[i, j].double() + self.blur[0][start + i] + self.blur[1][j]
        keep = upper <= limit
        open_ = (~keep).nonzero()[:, 0]
        i_open, j_open = i[open_], j[open_]
        keep[open_] = self.exact(start + i_open, j_open) <= radius.expand_as(block)[i_open, j_open]
        return start + i[keep], j[keep]

    def kth(self, k: int) -> Tensor:
        """For each row the distance (N,) to its k-th nearest column, counted from 1 and itself included."""
        return self.kth_of(*self.nearest(k + SPARE), k)

    def kth_of(self, lower: Tensor, columns: Tensor, k: int) -> Tensor:
        """The k-th smallest distance (N,) of each row, whose smallest bounds (N, >= k) are given, sorted."""
        return self.closest(lower, columns, k)[:, -1]

    def closest(self, lower: Tensor, columns: Tensor, k: int) -> Tensor:
        """The k smallest distances (N, k) of each row, sorted; its smallest bounds (N, >= k) are given, sorted."""
        import torch

        rows = torch.arange(len(lower))
        most = (lower.double() + self.blur[0][:, None] + self.blur[1][columns])[:, :k].amax(1, keepdim=True)
        candidates = lower <= most
        found = torch.full(lower.shape, torch.inf, dtype=torch.float64)
        i, j = candidates.nonzero(as_tuple=True)
        found[i, j] = self.exact(i, columns[i, j])
        found = found.sort().values[:, :k]
        if lower.shape[1] < len(self.second):
            crowded = rows[candidates[:, -1]]
            for part in torch.split(crowded, 64):
                whole = torch.cdist(self.first[part], self.second, compute_mode="donot_use_mm_for_euclid_dist")
                found[part] = whole.topk(k, largest=False).values
        return found


def _lifted(vectors: Tensor, *more: Tensor) -> Tensor:
    """The vectors (N, d) with more components (N,), float32."""
    import torch

    return torch.cat([vectors, *(part.float()[:, None] for part in more)], 1)


class Nearest:
    """The smallest bounds of each row and their columns, gathered from blocks of one half of a symmetric matrix."""

    def __init__(self, rows: int, count: int) -> None:
        import torch

        self.values = torch.full((rows, count), torch.inf)
        self.columns = torch.zeros((rows, count), dtype=torch.long)

    def add(self, row: int, column: int, block: Tensor) -> None:
        """Merge a block that begins at this row and column."""
        import torch

        rows = slice(row, row + len(block))
        values, columns = smallest(block, self.values.shape[1])
        values = torch.cat([self.values[rows], values], 1)
        columns = torch.cat([self.columns[rows], columns + column], 1)
        self.values[rows], order = values.topk(self.values.shape[1], largest=False)
        self.columns[rows] = columns.gather(1, order)


def smallest(block: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` smallest entries of each row, sorted, and their columns; all if there are no more.

    They are among the groups of columns with the smallest minima, and a minimum over many columns is fast.
    """
    import torch

    width = block.shape[1]
    count = min(count, width)
    group = min(GROUP, width // (2 * count))
    if group < 2:
        values, columns = block.topk(count, largest=False)
        return values, columns
    groups = width // group
    leaders = torch.unflatten(block[:, : groups * group], 1, (group, groups)).amin(1)
    best = leaders.topk(count, largest=False).indices
    columns = (best[:, :, None] + groups * torch.arange(group)).flatten(1)
    rest = torch.arange(groups * group, width).expand(len(block), -1)
    columns = torch.cat([columns, rest], 1)
    values, order = block.gather(1, columns).topk(count, largest=False)
    return values, columns.gather(1, order)
