"""Process-wide state: generators, which a plugin must leave alone, and settings, which a check restores."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch


def _set_environment(values: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's choice of algorithms": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "the working folder": (Path.cwd, os.chdir),
    "the environment": (lambda: dict(os.environ), _set_environment),
}
"""Settings by name, each with its getter and setter."""
GENERATORS = ("Python's generator", "NumPy's generator")


@contextmanager
def settings_restored() -> Iterator[None]:
    """Restore all settings after the block."""
    before = {name: get() for name, (get, _) in SETTINGS.items()}
    try:
        yield
    finally:
        for name, (get, put) in SETTINGS.items():
            if get() != before[name]:
                put(before[name])


def shared_state() -> dict[str, Any]:
    """Every setting, and the state of each of the global GENERATORS."""
    numpy: Any = np.random.get_state(legacy=False)
    position = numpy["state"]["pos"], numpy["has_gauss"], numpy["state"]["key"].tobytes()
    states = dict(zip(GENERATORS, (random.getstate(), position)))
    return {**states, **{name: get() for name, (get, _) in SETTINGS.items()}}
