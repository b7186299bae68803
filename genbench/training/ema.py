"""The exponential moving average of a model's weights, kept by the harness for every model alike."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from genbench.model import Model, Phase


class WeightAverage:
    """A copy of the model whose weights trail the trained ones; samples and likelihoods come from it.

    The decay is warmed up, min(decay, (1 + t)/(10 + t)) after t steps of a phase, so that short runs are not held
    back by their random start.
    """

    def __init__(self, model: Model, phases: list[Phase], decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay
        self._buffers = list(self.model.buffers())
        self._pairs = {phase.name: self._pair(model, phase.module) for phase in phases}

    def _pair(self, model: Model, module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        moved = {id(parameter) for parameter in module.parameters()}
        trained = {name: p for name, p in model.named_parameters() if id(p) in moved}
        averages = dict(self.model.named_parameters())
        return [averages[name] for name in trained], list(trained.values())

    @torch.no_grad()
    def update(self, phase: str, steps: int) -> None:
        """Move the averages of the phase's parameters towards their present values, after `steps` steps of it."""
        averages, trained = self._pairs[phase]
        decay = min(self.decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(averages, trained, 1 - decay)

    @torch.no_grad()
    def copy_buffers(self, model: Model) -> None:
        """Buffers are state, not weights: they are taken over as they are."""
        if self._buffers:
            torch._foreach_copy_(self._buffers, list(model.buffers()))

    @torch.no_grad()
    def replace(self, phase: str) -> None:
        """Make the averages of a finished phase its weights, so that later phases build on what will be sampled."""
        averages, trained = self._pairs[phase]
        torch._foreach_copy_(trained, averages)

    @torch.no_grad()
    def reset(self, phase: str) -> None:
        """Start the averages anew from the phase's present weights, after they were prepared from data."""
        averages, trained = self._pairs[phase]
        torch._foreach_copy_(averages, trained)
