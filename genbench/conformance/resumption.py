"""A training that is interrupted and continued in a newly built model, and the state that is lost on the way."""

from __future__ import annotations

import dis
import inspect
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genbench.conformance.case import Case
from genbench.conformance.places import SourceLine, called, own_classes, place_of, real
from genbench.metering.meter import Meter
from genbench.model import Model
from genbench.support.errors import Cancelled
from genbench.training.loop import Trainer
from genbench.training.memory import memories

STOPS = (1, 4)
"""Steps after which training is interrupted: within each half of STEPS, and no multiples of 2 or 3 apart."""
MODULE = frozenset(vars(nn.Module()))
"""Attributes that every module has: parameters, buffers, submodules, hooks and the mode."""


@dataclass(frozen=True)
class Resumed:
    """The trained model, and each attribute that training changed but did not save, with the line that sets it."""

    model: Model
    lost: dict[str, SourceLine | None]


def resumed(case: Case) -> Resumed:
    """Train the case, interrupted after each of STOPS and continued from the checkpoint in a new model."""
    lost: dict[str, SourceLine | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        while True:
            model = case.build()
            before = _unsaved(model)
            trained = _train_on(case, model, Path(folder))
            for name, (kind, content) in _unsaved(model).items():
                if before.get(name) != (kind, content):
                    lost.setdefault(name, _set_at(kind, name.rpartition(".")[2]))
            if trained is not None:
                return Resumed(trained, lost)


class _Interrupted(Trainer):
    def look_after(self, before: float) -> None:
        super().look_after(before)
        if self.meter.steps in STOPS:
            self.save()
            raise Cancelled(f"stopped after {self.meter.steps} steps")


def _train_on(case: Case, model: Model, folder: Path) -> Model | None:
    """Train from the checkpoint in the folder, if there is one. Returns None if interrupted."""
    meter = Meter(torch.device(case.device))
    with meter.training():
        try:
            return _Interrupted(case.job, model, case.data, folder, meter).run()
        except Cancelled:
            return None


def _unsaved(model: Model) -> dict[str, tuple[type[nn.Module], Any]]:
    """Everything that the modules hold outside their state, by name: the class of the module, and the content."""
    saved: dict[int, Any] = {id(value): value for value in model.state_dict(keep_vars=True).values()}
    saved |= {id(memory): memory for memory in memories(model).values()}
    saved |= {id(module): module for module in model.modules()}
    return {
        f"{path}.{name}".removeprefix("."): (type(module), _content(value, dict(saved)))
        for path, module in model.named_modules()
        for name, value in _members(module)
    }


def _members(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Plain attributes and non-persistent buffers."""
    yield from ((name, value) for name, value in vars(module).items() if name not in MODULE)
    yield from ((name, module.get_buffer(name)) for name in sorted(module._non_persistent_buffers_set))


def _content(value: Any, known: dict[int, Any]) -> Any:
    """The value as nested tuples that can be compared, without what is `known` and what cannot be copied."""
    if isinstance(value, int | float | complex | str | bytes | None):
        return repr(value)
    if id(value) in known:
        return "known"
    known[id(value)] = value
    if isinstance(value, Tensor):
        return (
            str(value.dtype),
            tuple(value.shape),
            value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes(),
        )
    if isinstance(value, list | tuple | dict):
        items = value.items() if isinstance(value, dict) else value
        return type(value), tuple(_content(item, known) for item in items)
    try:
        parts = value.__reduce_ex__(4)
    except Exception:  # a function, a generator, an open file
        return type(value)
    return parts if isinstance(parts, str) else tuple(_content(_listed(part), known) for part in parts)


def _listed(part: Any) -> Any:
    """The items, if `__reduce_ex__` returned them as an iterator."""
    return list(part) if isinstance(part, Iterator) else part


def _set_at(kind: type[nn.Module], name: str) -> SourceLine | None:
    """The first line of the class's own code that sets an attribute, or else its constructor."""
    for each in own_classes(kind):
        for method in map(inspect.unwrap, filter(callable, vars(each).values())):
            for instruction in dis.get_instructions(method) if inspect.isfunction(method) else ():
                if instruction.opname == "STORE_ATTR" and instruction.argval == name and instruction.positions:
                    line = instruction.positions.lineno or method.__code__.co_firstlineno
                    return SourceLine(real(method.__code__.co_filename), line, called(method.__qualname__))
    return place_of(kind, "__init__")
