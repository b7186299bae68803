"""Random numbers that belong to an image, not to its place in a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from genbench.support.seeds import derive_seed


class OwnNoise(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within the block, every image draws the same random numbers in whatever batch it stands.

    `images` are the numbers of the images of the batch, in its order. A random operation whose first dimension is that
    of the batch, or k times as long for k draws an image, runs once a row, each time seeded by the image, the draw and
    how many operations came before; any other is seeded by the last alone, so all images share its result. With
    `interleaved`, the k draws of an image stand side by side (`repeat_interleave`), else a batch apart (`repeat`).

    `led` has for each operation the k, or 0 if it is shared. Every length is a multiple of a batch of 1: given the
    `led` of a larger batch, an operation is shared if it was shared there.
    """

    def __init__(
        self, images: Sequence[int], seed: int, interleaved: bool = False, led: Sequence[int] | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.images, self.seed, self.interleaved = list(images), seed, interleaved
        self.before, self.led = led, list[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not _is_random(func):
            return func(*args, **kwargs)
        # A generator of the model's own is not used: None is the one that is seeded here.
        args = tuple(None if isinstance(arg, torch.Generator) else arg for arg in args)
        kwargs = kwargs | ({"generator": None} if "generator" in kwargs else {})
        call, rows = len(self.led), 0 if "out" in kwargs else _rows(args)
        draws = self._draws(call, rows) if len(func._schema.returns) == 1 else 0
        self.led.append(draws)
        generator = _generator(args, kwargs)
        if draws == 0:
            generator.manual_seed(derive_seed(self.seed, "shared", call))
            return func(*args, **kwargs)
        found = []
        for row in range(rows):
            draw, image = divmod(row, len(self.images))
            if self.interleaved:
                image, draw = divmod(row, draws)
            generator.manual_seed(derive_seed(self.seed, "image", call, self.images[image], draw))
            found.append(func(*(_row(arg, row, rows) for arg in args), **kwargs))
        in_place = isinstance(args[0], Tensor) and func._schema.is_mutable
        return args[0] if in_place else torch.cat(found)

    def _draws(self, call: int, rows: int) -> int:
        draws, left = divmod(rows, len(self.images))
        if left or (self.before is not None and call < len(self.before) and self.before[call] != draws):
            return 0
        return draws


@cache
def _is_random(func: Any) -> bool:
    """Attention is marked as random for its dropout, which is off where a model is scored."""
    return torch.Tag.nondeterministic_seeded in func.tags and "attention" not in func.__name__


def _generator(args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.Generator:
    """The default generator of the device that a random operation draws on."""
    tensor = next((arg for arg in args if isinstance(arg, Tensor)), None)
    device = torch.device(kwargs.get("device") or (torch.get_default_device() if tensor is None else tensor.device))
    if device.type != "cuda":
        return torch.default_generator
    return torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]


def _rows(args: Sequence[Any]) -> int:
    """The first dimension of what a random operation draws; 0 if it has none."""
    sizes: Sequence[int] = next((arg.shape if isinstance(arg, Tensor) else arg for arg in args if _sized(arg)), ())
    return int(sizes[0]) if len(sizes) else 0


def _row(arg: Any, row: int, rows: int) -> Any:
    """The argument for one row: a tensor that has these rows is sliced, a shape made one long."""
    if isinstance(arg, Tensor):
        return arg[row : row + 1] if arg.dim() and len(arg) == rows else arg
    return [1, *arg[1:]] if _sized(arg) and arg[0] == rows else arg


def _sized(arg: Any) -> bool:
    return isinstance(arg, Tensor) or (isinstance(arg, list | tuple) and len(arg) > 0)
