"""A promise of every model: a check on one case, and the method that keeps or breaks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from genbench.conformance.case import Case
from genbench.conformance.places import Place


class Broken(Exception):
    """A promise that is not kept: what was found, and the method or the line to look at."""

    def __init__(self, found: str, look: str | Place | None = None) -> None:
        super().__init__(found)
        self.look = look


class NotApplicable(Exception):
    """A promise that this model does not make, and why."""


Check = Callable[[Case], str | None]
"""Raises Broken, NotApplicable or whatever the model raises; may return in a few words what was found."""


@dataclass(frozen=True)
class Promise:
    """`about` is the method that it is about; what needs other promises is not checked where one of them is broken."""

    text: str
    check: Check
    about: str
    needs: tuple[Promise, ...]


def promise(text: str, about: str, *needs: Promise) -> Callable[[Check], Promise]:
    """A check becomes a promise. Those of a module are checked in the order in which they stand there."""
    return lambda check: Promise(text, check, about, needs)


def require(kept: bool | Tensor, found: str, look: str | Place | None = None) -> None:
    """Raise Broken unless `kept`."""
    if not kept:
        raise Broken(found, look)


def require_images(found: Tensor, shape: tuple[int, ...], method: str) -> None:
    """Raise Broken where a method did not give finite floats of the shape."""
    require(tuple(found.shape) == shape, f"{method} gives the shape {tuple(found.shape)}, not {shape}", method)
    require(found.is_floating_point() and found.isfinite().all(), f"{method} gives what is not finite", method)


def listed(names: Any) -> str:
    """The first few of some names."""
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
