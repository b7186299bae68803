"""Exact Euclidean distances between many features: a float32 pass bounds them, float64 decides where it matters."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

ROWS = 256
GROUP = 16
SPARE = 8
"""Nearest candidates beyond those asked for; where they do not suffice, a row is computed in float64 throughout."""
CHUNK = 2**24
"""Numbers that a block of exact distances may gather at once."""
UNIT = 2.0**-24


class Distances:
    """Distances from the rows of `first` (N, d) to those of `second` (M, d), float64 in, float64 out.

    Squared distances are products of lifted float32 vectors, (x, |x|^2, 1).(-2y, 1, |y|^2), of centred and scaled
    features. Their rounding error is at most (d + 6) 2^-24 (|x| + |y|)^2, whatever the order of summation (Higham 2002,
    section 3.1), and beyond 8 sqrt(d) instead of d once in 10^13 (Higham and Mary 2019). Made smaller by `slack`,
    |x|^2 and |y|^2 give lower bounds. What the bounds leave open is
    decided by differences in float64, which neither a common offset nor ties can disturb.
    """

    def __init__(self, first: Tensor, second: Tensor) -> None:
        self.first, self.second = first.contiguous(), second.contiguous()
        centre = second.mean(0)
        rows, columns = first - centre, second - centre
        self.scale = float(max(rows.norm(dim=1).max(), columns.norm(dim=1).max())) or 1.0
        rows, columns = rows / self.scale, columns / self.scale
        slack = 2 * (8 + min(first.shape[1], 8 * math.sqrt(first.shape[1]))) * UNIT
        squares = [side.square().sum(1) for side in (rows, columns)]
        self.blur = [2 * slack * norm for norm in squares]
        """Added for its row and for its column, makes a lower bound an upper bound."""
        norms = [(1 - slack) * norm[:, None] for norm in squares]
        ones = [torch.ones_like(norm) for norm in norms]
        self._rows = torch.cat([rows, norms[0], ones[0]], 1).float()
        self._columns = torch.cat([-2 * columns, ones[1], norms[1]], 1).float().T.contiguous()

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Blocks of rows: the first row's index, and lower bounds (rows, M) of squared distances over scale^2."""
        for start in range(0, len(self.first), ROWS):
            yield start, self._rows[start : start + ROWS] @ self._columns

    def exact(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The distances of pairs, by differences in float64."""
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
        return torch.cat([self.kth_of(start, *smallest(block, k + SPARE), k) for start, block in self.blocks()])

    def kth_of(self, start: int, lower: Tensor, columns: Tensor, k: int) -> Tensor:
        """The k-th smallest distance of rows from `start` on, whose smallest bounds (rows, >= k) are given, sorted."""
        rows = torch.arange(start, start + len(lower))
        most = (lower.double() + self.blur[0][rows, None] + self.blur[1][columns])[:, :k].amax(1, keepdim=True)
        candidates = lower <= most
        found = torch.full(lower.shape, torch.inf, dtype=torch.float64)
        i, j = candidates.nonzero(as_tuple=True)
        found[i, j] = self.exact(start + i, columns[i, j])
        found = found.kthvalue(k).values
        if lower.shape[1] < len(self.second):
            crowded = candidates[:, -1].nonzero()[:, 0]
            for part in torch.split(crowded, 64):
                whole = torch.cdist(self.first[start + part], self.second, compute_mode="donot_use_mm_for_euclid_dist")
                found[part] = whole.kthvalue(k).values
        return found


def smallest(block: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` smallest entries of each row, sorted, and their columns; all where there are no more.

    They are among the groups of columns with the smallest minima, and a minimum over many columns is fast.
    """
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
