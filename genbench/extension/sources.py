"""The source files behind a plugin, and the digest that says which code trained a model."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

GROUP = "genbench"
SHARED = tuple(
    f"genbench.{name}"
    for name in ("distributions", "embeddings", "images", "nets", "optimizers", "schedules", "transformer")
)
"""What plugins share of the core's mathematics: a change of it makes another model, as a change of their own does."""


@cache
def declared() -> list[EntryPoint]:
    """The entry points of the group, as this environment declares them."""
    return sorted(set(entry_points(group=GROUP)), key=lambda point: (point.name, point.value))


def source_files(plugin: Any) -> list[Path]:
    """The Python files behind a plugin's numbers: its own, then those of other plugins and of SHARED that it uses."""
    module = plugin if isinstance(plugin, ModuleType) else sys.modules[type(plugin).__module__]
    packages = {point.value.split(":")[0] for point in declared()}
    found, waiting = {module.__name__: own_files(module)}, [module]
    while waiting:
        for name in sorted(used_modules(waiting.pop())):
            whole = name if name in SHARED else name.split(".")[0]
            if whole not in found and (whole in SHARED or whole in packages):
                found[whole] = own_files(sys.modules[whole])
                waiting.append(sys.modules[whole])
    return [*found.pop(module.__name__), *(file for name in sorted(found) for file in found[name])]


def own_files(module: ModuleType) -> list[Path]:
    """The file of a module, or all of its package."""
    file = Path(module.__file__ or "")
    return sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]


def used_modules(module: ModuleType) -> set[str]:
    """The modules that what a module, or one of its package, has imported was defined in."""
    inside = [other for name, other in list(sys.modules.items()) if f"{name}.".startswith(f"{module.__name__}.")]
    values = [value for other in inside for value in vars(other).values()]
    names = {value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "") for value in values}
    return {name for name in names if isinstance(name, str)}
