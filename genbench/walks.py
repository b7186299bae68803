"""Samplers as walks: the states that an image passes through on its way from noise to data, at times down to 0."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

State = TypeVar("State")
Walk = Iterator[tuple[int, Tensor]]
"""Pairs (t, x_t), from the time at which a sampler starts down to t = 0; x_0 is the sample."""


def last(states: Iterator[State]) -> State:
    """The last of some states, of which there is one at least."""
    (state,) = deque(states, maxlen=1)
    return state


def reported(states: Iterator[State], total: int, report: Callable[[float], None]) -> Iterator[State]:
    """The states, and to `report`, a model's, the share of so many that is there with each."""
    for done, state in enumerate(states, 1):
        report(done / total)
        yield state


def end_of(walk: Walk) -> Tensor:
    """x_0."""
    return last(walk)[1]


def reverse_chain(walk: Walk, total: int, count: int) -> tuple[Tensor, Tensor]:
    """About `count` of a sampler's times, from T = `total` to 0, int64, and x_t at each, (times, B, ...)."""
    kept: list[tuple[int, Tensor]] = []
    for t, x in walk:
        if t == 0 or not kept or total - t >= len(kept) * total / (count - 1):
            kept.append((t, x))
    times, states = zip(*kept)
    return torch.tensor(times, device=states[0].device), torch.stack(states)
