"""Tensors that a model keeps only for training (`Model.register_memory`): checkpointed, never averaged."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

from genbench.model import Model
from genbench.support.errors import CorruptData

M = TypeVar("M", bound=Model)


def memories(model: Model) -> dict[str, Tensor]:
    """The model's memories by name."""
    return {name: getattr(model, name) for name in model._memories}


def restore_memories(model: Model, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `memories` returned. Raises CorruptData if the names differ from the model's."""
    own = memories(model)
    if own.keys() != tensors.keys():
        raise CorruptData(f"checkpoint: memories {sorted(tensors)}, but the model has {sorted(own)}")
    for name, tensor in tensors.items():
        setattr(model, name, tensor.to(own[name].device))


def forget(model: M) -> M:
    """The model itself with its memories emptied (0 rows), as for sampling."""
    for name, tensor in memories(model).items():
        setattr(model, name, _empty(tensor))
    return model


def copy_without_memories(model: M) -> M:
    """A copy with empty memories, which are never copied."""
    return copy.deepcopy(model, {id(tensor): _empty(tensor) for tensor in memories(model).values()})


def _empty(tensor: Tensor) -> Tensor:
    return tensor.new_empty((0, *tensor.shape[1:]))
