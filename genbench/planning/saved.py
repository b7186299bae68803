"""How many bytes autograd has saved for backward passes, and the most that they were at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor


class Saved:
    """Counts within `with saved.counting():`; what a backward pass has freed, as in a chain of steps, counts no more.

    The storages of `own` tensors, a model's, are there anyway.
    """

    def __init__(self, own: Iterable[Tensor]) -> None:
        self.own = {tensor.untyped_storage()._cdata for tensor in own}
        self.holders: Counter[int] = Counter()
        self.bytes = self.most = 0

    def counting(self) -> torch.autograd.graph.saved_tensors_hooks:
        return torch.autograd.graph.saved_tensors_hooks(lambda tensor: Held(tensor, self), lambda held: held.tensor)

    def add(self, storage: int, size: int) -> None:
        self.holders[storage] += 1
        if self.holders[storage] == 1 and storage not in self.own:
            self.bytes += size
            self.most = max(self.most, self.bytes)

    def remove(self, storage: int, size: int) -> None:
        self.holders[storage] -= 1
        if not self.holders[storage] and storage not in self.own:
            self.bytes -= size


class Held:
    """A tensor that a graph has saved, until the graph lets go of it."""

    def __init__(self, tensor: Tensor, saved: Saved) -> None:
        storage = tensor.untyped_storage()
        self.tensor, self.saved, self.place = tensor, saved, (storage._cdata, storage.nbytes())
        saved.add(*self.place)

    def __del__(self) -> None:
        self.saved.remove(*self.place)
