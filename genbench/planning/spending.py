"""What a training spends of its budget: steps, images and FLOPs, from those of one update of every phase."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from genbench.records.budget import Budget


@dataclass(frozen=True)
class Update:
    """One update of a phase: what it takes, when in the budget it is done (`span`), and how often a step."""

    phase: str
    images: int
    flops: float
    repeats: int = 1
    span: tuple[float, float] = (0.0, 1.0)


@dataclass
class Spending:
    """What a whole training takes; `updates` by phase."""

    steps: int = 0
    images: int = 0
    flops: float = 0.0
    updates: dict[str, int] = field(default_factory=dict)

    def amount(self, unit: str) -> float:
        return {"steps": self.steps, "images": self.images, "flops": self.flops}[unit]

    def add(self, active: Sequence[Update], steps: int) -> None:
        """So many steps of the active phases."""
        self.steps += steps
        for update in active:
            count = steps * update.repeats
            self.updates[update.phase] = self.updates.get(update.phase, 0) + count
            self.images += count * update.images
            self.flops += count * update.flops


def spend(budget: Budget, updates: Sequence[Update]) -> Spending | None:
    """The steps of `genbench.train` until a budget in images, steps or FLOPs is reached, exactly, without taking them.

    None where steps take nothing that the budget counts, so that it would never be spent.
    """
    spent = Spending(updates=dict.fromkeys([update.phase for update in updates], 0))
    while (progress := spent.amount(budget.unit) / budget.amount) < 1:
        active = [update for update in updates if update.span[0] <= progress < update.span[1]]
        one = Spending()
        one.add(active, 1)
        each = one.amount(budget.unit)
        if not each:
            return None
        border = min([1.0, *(edge for update in updates for edge in update.span if edge > progress)])
        start = spent.amount(budget.unit)
        steps = max(1, math.ceil((border * budget.amount - start) / each))
        while steps > 1 and (start + (steps - 1) * each) / budget.amount >= border:
            steps -= 1
        while (start + steps * each) / budget.amount < border:
            steps += 1
        spent.add(active, steps)
    return spent
