"""What training spends of its budget: steps, images and FLOPs, from the cost of one update of each phase."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from genbench.records.budget import Budget


@dataclass(frozen=True)
class Update:
    """One update of a phase: its cost, its `span` of the budget, in which steps it runs, and how often."""

    phase: str
    images: int
    flops: float
    repeats: int = 1
    span: tuple[float, float] = (0.0, 1.0)
    every: int = 1


@dataclass
class Spending:
    """The totals of a training so far; `updates` by phase."""

    steps: int = 0
    images: int = 0
    flops: float = 0.0
    updates: dict[str, int] = field(default_factory=dict)

    def amount(self, unit: str) -> float:
        return {"steps": self.steps, "images": self.images, "flops": self.flops}[unit]

    def after(self, active: Sequence[Update], steps: int) -> Spending:
        """The totals after `steps` more steps of the active phases."""
        counts = {
            update.phase: (_turns(self.steps + steps, update.every) - _turns(self.steps, update.every)) * update.repeats
            for update in active
        }
        return Spending(
            self.steps + steps,
            self.images + sum(counts[update.phase] * update.images for update in active),
            self.flops + sum(counts[update.phase] * update.flops for update in active),
            {phase: count + counts.get(phase, 0) for phase, count in self.updates.items()},
        )


def _turns(steps: int, every: int) -> int:
    """How many of the first `steps` steps, 0 among them, are multiples of `every`."""
    return -(-steps // every)


def spend(budget: Budget, updates: Sequence[Update]) -> Spending | None:
    """Exactly what `genbench.train` spends to reach a budget in images, steps or FLOPs, without running it.

    None if steps spend nothing that the budget counts, so that it would never be reached.
    """
    spent = Spending(updates=dict.fromkeys([update.phase for update in updates], 0))
    turn = math.lcm(*(update.every for update in updates))

    def share(active: Sequence[Update], steps: int) -> float:
        return spent.after(active, steps).amount(budget.unit) / budget.amount

    while (progress := share((), 0)) < 1:
        active = [update for update in updates if update.span[0] <= progress < update.span[1]]
        border = min([1.0, *(edge for update in updates for edge in update.span if edge > progress)])
        if spent.after(active, turn).amount(budget.unit) == spent.amount(budget.unit):
            return None
        most = turn
        while share(active, most) < border:
            most *= 2
        steps = 1 + bisect_left(range(1, most), True, key=lambda steps: share(active, steps) >= border)
        spent = spent.after(active, steps)
    return spent
