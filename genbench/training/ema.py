"""The exponential moving average of a model's weights, kept by the harness in the same way for every model."""

from __future__ import annotations

import torch
from torch import Tensor

from genbench.model import Model, Phase
from genbench.training.memory import copy_without_memories, memories
from genbench.training.phases import first_phases


class WeightAverage:
    """A copy of the model whose weights trail the trained ones; samples and likelihoods come from it.

    The decay is warmed up, min(decay, (1 + t)/(10 + t)) after t steps of an optimizer, so that short runs are not
    held back by their random start. Phases that share an optimizer share the average of what they move.
    """

    def __init__(self, model: Model, phases: list[Phase], decay: float) -> None:
        self.model = copy_without_memories(model).requires_grad_(False).eval()
        self.decay = decay
        self._buffers = _buffers(self.model)
        first = first_phases(phases)
        sharing = {name: [phase for phase in phases if first[phase.name] == name] for name in first.values()}
        self._pairs = {phase.name: self._pair(model, sharing[first[phase.name]]) for phase in phases}

    def _pair(self, model: Model, phases: list[Phase]) -> tuple[list[Tensor], list[Tensor]]:
        moved = {id(parameter) for phase in phases for parameter in phase.module.parameters()}
        trained = {name: p for name, p in model.named_parameters() if id(p) in moved}
        averages = dict(self.model.named_parameters())
        return [averages[name] for name in trained], list(trained.values())

    @torch.no_grad()
    def update(self, phase: str, steps: int) -> None:
        """Move the averages of the phase's parameters towards their present values, after `steps` optimizer steps."""
        averages, trained = self._pairs[phase]
        decay = min(self.decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(averages, trained, 1 - decay)

    @torch.no_grad()
    def copy_buffers(self, model: Model) -> None:
        """Copy the buffers unaveraged: they are state, not weights."""
        if self._buffers:
            torch._foreach_copy_(self._buffers, _buffers(model))

    @torch.no_grad()
    def replace(self, phase: str) -> None:
        """Set a finished phase's weights to their averages, so that later phases build on what will be sampled."""
        averages, trained = self._pairs[phase]
        torch._foreach_copy_(trained, averages)

    @torch.no_grad()
    def reset(self, phase: str) -> None:
        """Restart the averages from the phase's present weights, after `prepare` has set them from data."""
        averages, trained = self._pairs[phase]
        torch._foreach_copy_(averages, trained)


def _buffers(model: Model) -> list[Tensor]:
    """All buffers except memories, which belong to training."""
    kept = memories(model)
    return [buffer for name, buffer in model.named_buffers() if name not in kept]
