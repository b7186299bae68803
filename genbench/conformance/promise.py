"""A promise that every model makes: a check on one case, and the method that keeps or breaks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from genbench.conformance.case import Case
from genbench.conformance.places import SourceLine
from genbench.model import Model


class Broken(Exception):
    """A broken promise: what was found, and the method or the line to look at."""

    def __init__(self, found: str, look: str | SourceLine | None = None) -> None:
        super().__init__(found)
        self.look = look


class NotApplicable(Exception):
    """This model does not make the promise; the message says why."""


Check = Callable[[Case], str | None]
"""Raises Broken, NotApplicable or whatever the model raises; may return a short description of what was found."""


@dataclass(frozen=True)
class Promise:
    """`about` is the method concerned; the check is skipped if a promise that it `needs` is broken or not made.

    It is also skipped if one that it comes `after` is broken, but not if the model does not make that one.
    """

    text: str
    check: Check
    about: str
    needs: tuple[Promise, ...]
    after: tuple[Promise, ...] = ()


def promise(text: str, about: str, *needs: Promise, after: tuple[Promise, ...] = ()) -> Callable[[Check], Promise]:
    """Make a check a promise. The promises of a module are checked in the order of their definition."""
    return lambda check: Promise(text, check, about, needs, after)


def require(kept: bool | Tensor, found: str, look: str | SourceLine | None = None) -> None:
    """Raise Broken unless `kept`."""
    if not kept:
        raise Broken(found, look)


def require_images(found: Tensor, shape: tuple[int, ...], method: str) -> None:
    """Raise Broken if a method did not return finite floats of the shape."""
    require(tuple(found.shape) == shape, f"{method} returns the shape {tuple(found.shape)}, not {shape}", method)
    require(
        found.is_floating_point() and found.isfinite().all(),
        f"{method} returns values that are not finite floats",
        method,
    )


def require_no_gradients(found: Tensor, model: Model, method: str) -> None:
    """Raise Broken if a method returned a tensor with a graph, or left gradients on the model's parameters."""
    told = f"{method} returns a tensor that requires grad: detach it, or its graph stays in memory"
    require(not found.requires_grad, told, method)
    left = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    told = f"{method} leaves a gradient on {listed(left)}: use torch.autograd.grad(energy, images), not backward()"
    require(not left, told, method)


def listed(names: Any) -> str:
    """The first four names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
