"""What a model is conditioned on: a job's `ConditionSpec`, and the `Condition` of a batch of images or samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Kind = Literal["class", "text", "map", "hole", "image", "vector"]
Given: TypeAlias = Any
"""What a model is handed: labels, int64 (B,), of kind "class", a `Condition` of another, None if unconditional."""


@dataclass(frozen=True)
class ConditionSpec:
    """What a job conditions on, by any kind but "class", of which `DataSpec.num_classes` says all there is to say.

    `shape` is that of one condition's main tensor, which has the kind's name: (D,) of a vector, (C, h, w) of an image,
    (L,) of text. `size` is the number of classes of a map or of words of a vocabulary, 0 if its values are continuous.
    `encoder` is the name and digest of a frozen encoder, "" without one.
    """

    kind: Kind
    shape: tuple[int, ...] = ()
    size: int = 0
    encoder: str = ""


@dataclass(frozen=True, eq=False)
class Condition:
    """The conditions of a batch: tensors by name, each with B first, which the harness slices and moves together."""

    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        lengths = {name: len(tensor) for name, tensor in self.tensors.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"a condition has one length in all its tensors, not {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    @overload
    def __getitem__(self, key: str) -> Tensor: ...
    @overload
    def __getitem__(self, key: slice) -> Condition: ...
    def __getitem__(self, key: str | slice) -> Tensor | Condition:
        """The tensor of a name, or a part of the batch."""
        if isinstance(key, str):
            return self.tensors[key]
        return Condition({name: tensor[key] for name, tensor in self.tensors.items()})

    def to(self, device: torch.device | str) -> Condition:
        """The same on a device."""
        return Condition({name: tensor.to(device) for name, tensor in self.tensors.items()})


def as_kind(asked: Kind | bool | None) -> Kind | None:
    """A kind as it may be asked for: True is the class, False nothing."""
    return "class" if asked is True else asked or None


def kind_of(classes: int, condition: ConditionSpec | None) -> Kind | None:
    """The kind of what is conditioned on; `classes` is 0, or False, if that is not the class label."""
    if condition is not None:
        return condition.kind
    return "class" if classes else None
