"""The state of optimizers as tensors in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from genbench.support.errors import CorruptData


def optimizer_tensors(optimizers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    """The optimizers' state as `phase.index.name`; hyper-parameters come from the rebuilt optimizer."""
    tensors = {}
    for phase, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"{phase}.{index}.{name}"] = torch.as_tensor(value)
    return tensors


def restore_optimizers(optimizers: Mapping[str, Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` returned. Raises CorruptData for an unknown phase or parameter."""
    states: dict[str, dict[int, dict[str, Tensor]]] = {phase: {} for phase in optimizers}
    moved = {p: [q for group in o.param_groups for q in group["params"]] for p, o in optimizers.items()}
    for key, value in tensors.items():
        phase, index, name = key.rsplit(".", 2)
        if phase not in states or int(index) >= len(moved[phase]):
            raise CorruptData(f"checkpoint: optimizer state of an unknown parameter: {phase!r}, {index}")
        states[phase].setdefault(int(index), {})[name] = _laid_out(value, moved[phase][int(index)])
    for phase, optimizer in optimizers.items():
        plain = optimizer.state_dict()
        plain["state"] = states[phase]
        optimizer.load_state_dict(plain)


def _laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """The value in its parameter's memory layout, as the optimizer created it: other layouts round differently."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device, requires_grad=False).copy_(value)
