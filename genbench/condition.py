"""What a model is conditioned on: a job's `ConditionSpec`, and the `Condition` of a batch of images or samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, overload

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Kind = Literal["class", "text", "map", "hole", "image", "vector"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SHOWING: tuple[Kind, ...] = ("hole", "image")
"""The kinds that show a part of an image, or a small one: one of many answers is the image itself."""
OPEN: tuple[Kind, ...] = ("text", "map", *SHOWING)
"""The kinds that leave an image open: of each condition several samples are drawn."""
EACH = 4
"""Samples of a condition of these kinds: what they share can be told from what they are free in."""
OF_DATASET = "own"
"""What stands for the kind that a dataset is made for: the first that it has beside the class."""
Asked = Literal["class", "text", "map", "hole", "image", "vector", "own"]
"""What may be asked for: a kind, or OF_DATASET."""
PLACED: tuple[Kind, ...] = ("map", *SHOWING)
"""The kinds that have places: tensors of these names have height and width as their last dimensions."""
Given: TypeAlias = Any
"""What a model is handed: labels, int64 (B,), of kind "class", a `Condition` of another, None if unconditional."""


@dataclass(frozen=True)
class ConditionSpec:
    """What a job conditions on, by any kind but "class", of which `DataSpec.num_classes` says all there is to say.

    `shape` is that of one condition's main tensor, which has the kind's name: (D,) of a vector, (C, h, w) of an image,
    (L,) of text. `size` is the number of classes of a map, or of numbers that words of a vocabulary have at most
    (`genbench.data.words`), 0 if its values are continuous. `encoder` is the name and digest of a frozen encoder of
    text, whose conditions are (L, D), "" without one.
    """

    kind: Kind
    shape: tuple[int, ...] = ()
    size: int = 0
    encoder: str = ""

    def channels(self, colours: int) -> int:
        """The channels of `Condition.maps` for images of so many colours; 0 if the kind has no places."""
        if self.kind == "map":
            return self.size + 1
        return colours + 1 if self.kind in SHOWING else 0


@dataclass(frozen=True, eq=False)
class Condition:
    """The conditions of a batch: tensors by name, each with B first, which the harness slices and moves together.

    By kind: `text` int64 (B, L), numbers of words and 0 behind the last, or float (B, L, D), encoded, and zeros behind
    it, and with it `captions` uint8 (B, W), their UTF-8 and zeros behind, where these are known; `map` int64 (B, h, w),
    of `size` classes, where `size` itself means that nothing is known; `image` float (B, C, h, w), and with it `hole`
    bool (B, 1, H, W), True where to fill; `vector` float (B, D).
    """

    tensors: Mapping[str, Tensor]
    size: int = 0

    def __post_init__(self) -> None:
        lengths = {name: len(tensor) for name, tensor in self.tensors.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"a condition has one length in all its tensors, not {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    @overload
    def __getitem__(self, key: str) -> Tensor: ...
    @overload
    def __getitem__(self, key: slice | Tensor) -> Condition: ...
    def __getitem__(self, key: str | slice | Tensor) -> Tensor | Condition:
        """The tensor of a name, or a part of the batch."""
        return self.tensors[key] if isinstance(key, str) else self._each(lambda tensor: tensor[key])

    def to(self, device: torch.device | str) -> Condition:
        """The same on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def repeat(self, times: int) -> Condition:
        """The whole batch so many times."""
        return self._each(lambda tensor: tensor.repeat(times, *[1] * (tensor.dim() - 1)))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Condition:
        return replace(self, tensors={name: change(tensor) for name, tensor in self.tensors.items()})

    @property
    def device(self) -> torch.device:
        return next(iter(self.tensors.values())).device

    def mirrored(self, chosen: Tensor) -> Condition:
        """The same with all that has places mirrored left to right where `chosen`, bool (B,), is true."""
        mirrored: dict[str, Tensor] = {
            name: tensor.flip(-1).where(chosen.view(-1, *[1] * (tensor.dim() - 1)), tensor)
            for name, tensor in self.tensors.items()
            if name in PLACED
        }
        return replace(self, tensors={**self.tensors, **mirrored})

    def dropped(self, chosen: Tensor) -> Condition:
        """The same where nothing is shown or told if `chosen`, bool (B,), is true: the null condition of guidance.

        That is a text without words, a map of which nothing is known, an image that is all hole, a vector of zeros.
        """
        if "image" not in self.tensors:
            return self._each(lambda x: x.masked_fill(chosen.view(-1, *[1] * (x.dim() - 1)), self.size))
        image, chosen = self["image"], chosen.view(-1, 1, 1, 1)
        hole = self.tensors.get("hole", image.new_zeros(1).bool()).logical_or(chosen)
        return Condition({"image": image.masked_fill(chosen, 0), "hole": hole.expand(-1, 1, *image.shape[2:])})

    @property
    def placed(self) -> bool:
        """Whether it has height and width, and so `maps`."""
        return any(name in PLACED for name in self.tensors)

    def maps(self, size: Sequence[int]) -> Tensor:
        """What is shown of images of `size`, as channels, float (B, channels, H, W).

        Of a map they are its classes and the unknown, 1 where they are; of an image its colours, and where nothing is
        shown. They are enlarged by repetition and made smaller by averaging.
        """
        import torch

        from genbench.nets import resized

        height, width = size
        if "map" in self.tensors:
            classes = torch.nn.functional.one_hot(self["map"], self.size + 1)
            return resized(classes.movedim(3, 1).float(), (height, width))
        image = self["image"]
        hole = self.tensors.get("hole", image.new_zeros(1)).to(image.dtype).expand(len(image), 1, *image.shape[2:])
        return resized(torch.cat([image, hole], 1), (height, width))


def beside(x: Tensor, given: Given, size: Sequence[int], factor: int = 1) -> tuple[Tensor, Tensor | None]:
    """What a network gets of x (B, C, h, w) and what is given: maps as channels, or else labels, text or a vector.

    x are images of `size`, or of a `factor` less, such as latents, to which squares of pixels of the maps are folded.
    """
    import torch

    from genbench.nets import folded

    if not isinstance(given, Condition):
        return x, given
    if not given.placed:
        return x, next(given.tensors[kind] for kind in ("text", "vector") if kind in given.tensors)
    return torch.cat([x, folded(given.maps(size), factor).to(x.dtype)], 1), None


def hole_of(given: Given) -> Tensor | None:
    """Where to fill, bool (B, 1, H, W), if what is given is an image with holes."""
    return given.tensors.get("hole") if isinstance(given, Condition) else None


def as_kind(asked: Kind | bool | None) -> Kind | None:
    """A kind as it may be asked for: True is the class, False nothing."""
    return "class" if asked is True else asked or None


def kind_of(classes: int, condition: ConditionSpec | None) -> Kind | None:
    """The kind of what is conditioned on; `classes` is 0, or False, if that is not the class label."""
    if condition is not None:
        return condition.kind
    return "class" if classes else None
