"""Lines of a model's own code: where a method is defined, where an exception was raised, where a crash happened."""

from __future__ import annotations

import inspect
import linecache
import os
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from genbench.extension.sources import own_files

if TYPE_CHECKING:
    from torch import nn

    from genbench.model import Model

FOREIGN = ("genbench", "torch", "builtins", "typing", "abc")
"""Packages of a model's base classes that are not its author's."""


@dataclass(frozen=True)
class SourceLine:
    """A line to look at, in a method or a class."""

    file: str
    line: int
    within: str

    def __str__(self) -> str:
        return f"{from_here(self.file)}:{self.line}, in {self.within}"

    def code(self, indent: str) -> list[str]:
        """The line itself, where the file can still be read."""
        text = linecache.getline(self.file, self.line).strip()
        return [indent + text] if text else []


@cache
def real(file: str | Path) -> str:
    """The file's path, links followed."""
    return os.path.realpath(file)


def from_here(file: str) -> str:
    """The path from the working folder, where it is below."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def own_classes(model: type[nn.Module]) -> list[type]:
    """The model, or a part of it, and those of its bases that its author wrote."""
    return [kind for kind in model.__mro__ if kind.__module__.split(".")[0] not in FOREIGN]


def own_sources(model: type[Model]) -> set[str]:
    """The files of the model's own code: those of its classes' modules, and of the packages that these are in."""
    found: set[str] = set()
    for kind in own_classes(model):
        for name in (kind.__module__, kind.__module__.split(".")[0]):
            module = sys.modules.get(name)
            if module is not None and getattr(module, "__file__", None):
                found |= {real(file) for file in own_files(module)}
    return found


def place_of(model: type[nn.Module], name: str) -> SourceLine | None:
    """Where the model, or a part of it, defines a method, or a class within; the line of its own class otherwise."""
    for kind in own_classes(model):
        value = vars(kind).get(name)
        value = getattr(value, "fget", None) or getattr(value, "func", None) or getattr(value, "__func__", value)
        if place := _definition(value):
            return place
    return _definition(model)


def _definition(value: Any) -> SourceLine | None:
    """The line of `def` or `class`, decorators above it left out; None for what is neither."""
    value = inspect.unwrap(value) if callable(value) else value
    if not (inspect.isfunction(value) or inspect.isclass(value)):
        return None
    try:
        lines, first = inspect.getsourcelines(value)
        file = real(inspect.getfile(value))
    except (OSError, TypeError):
        return None
    above = next((i for i, text in enumerate(lines) if text.lstrip().startswith(("def ", "async def ", "class "))), 0)
    name = value.__qualname__
    return SourceLine(file, first + above, f"class {inner(name)}" if inspect.isclass(value) else called(name))


def inner(name: str) -> str:
    """A qualified name without the function that the class stands in."""
    return name.rpartition("<locals>.")[2]


def called(name: str) -> str:
    """A function's qualified name as it is told: `Mine.sample()`."""
    return inner(name) if name.startswith("<") else f"{inner(name)}()"


def raised_at(error: BaseException, sources: set[str]) -> SourceLine | None:
    """The innermost line of these files that an exception, or what caused it, has passed."""
    found, seen = None, set[int]()
    cause: BaseException | None = error
    while found is None and cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        trace = cause.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            if real(code.co_filename) in sources:
                found = SourceLine(real(code.co_filename), trace.tb_lineno, called(code.co_qualname))
            trace = trace.tb_next
        cause = cause.__cause__ or cause.__context__
    return found


def innermost(frame: FrameType | None, sources: set[str]) -> SourceLine | None:
    """The line of these files that is being executed: of this frame or of the nearest that called it."""
    while frame is not None:
        file = real(frame.f_code.co_filename)
        if file in sources:
            return SourceLine(file, frame.f_lineno, called(frame.f_code.co_qualname))
        frame = frame.f_back
    return None


def dumped_at(dump: str, sources: set[str]) -> SourceLine | None:
    """The line of these files in a traceback that `faulthandler` left, whose innermost line comes first."""
    for file, line, name in re.findall(r'^ +File "(.+)", line (\d+) in (.+)$', dump, re.MULTILINE):
        if real(file) in sources:
            return SourceLine(real(file), int(line), called(name))
    return None
