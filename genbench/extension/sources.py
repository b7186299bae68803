"""The source files that a plugin's results depend on."""

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
    for name in (
        "adversarial", "autoencoder", "distributions", "embeddings", "images", "langevin", "nets", "optimization",
        "optimizers", "schedules", "transformer", "walks",
    )
)  # fmt: skip
"""The core's mathematics that plugins share: changing it makes a different model, as changing a plugin does."""


@cache
def declared() -> list[EntryPoint]:
    """The entry points of the group that are declared in this environment."""
    return sorted(set(entry_points(group=GROUP)), key=lambda point: (point.name, point.value))


@cache
def shipped() -> set[str]:
    """The packages that are genbench's own: itself, and the plugins that ship with it."""
    points = [point for point in declared() if point.dist is not None and point.dist.name == "genbench"]
    return {"genbench", *(point.module.split(".")[0] for point in points)}


def source_files(plugin: Any) -> list[Path]:
    """The Python files that a plugin's results depend on: its own, then those of SHARED and other plugins it uses."""
    return [file for module in source_modules(plugin) for file in own_files(module)]


def foreign_files(plugin: Any) -> dict[str, Path]:
    """Those of `source_files` that do not ship with genbench, by names that do not say where they lie."""
    found: dict[str, Path] = {}
    for module in source_modules(plugin):
        if module.__name__.split(".")[0] not in shipped():
            root = root_of(module)
            found |= {file.relative_to(root).as_posix(): file for file in own_files(module)}
    return found


def root_of(module: ModuleType) -> Path:
    """The folder that a module's file, or a package's folder, lies in."""
    file = Path(module.__file__ or "")
    return file.parent.parent if file.name == "__init__.py" else file.parent


def source_modules(plugin: Any) -> list[ModuleType]:
    """The modules and packages that a plugin's results depend on: its own, then by name those of SHARED and others."""
    module = plugin if isinstance(plugin, ModuleType) else sys.modules[type(plugin).__module__]
    packages = {point.module.split(".")[0] for point in declared()}
    found, waiting = {module.__name__: module}, [module]
    while waiting:
        for name in sorted(used_modules(waiting.pop())):
            whole = name if name in SHARED else name.split(".")[0]
            if whole not in found and (whole in SHARED or whole in packages):
                found[whole] = sys.modules[whole]
                waiting.append(sys.modules[whole])
    return [found.pop(module.__name__), *(found[name] for name in sorted(found))]


def own_files(module: ModuleType) -> list[Path]:
    """The file of a module, or all files of a package."""
    file = Path(module.__file__ or "")
    return sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]


def used_modules(module: ModuleType) -> set[str]:
    """The modules that define what a module, or any in its package, has imported."""
    inside = [other for name, other in list(sys.modules.items()) if f"{name}.".startswith(f"{module.__name__}.")]
    values = [value for other in inside for value in vars(other).values()]
    names = {value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "") for value in values}
    return {name for name in names if isinstance(name, str)}
