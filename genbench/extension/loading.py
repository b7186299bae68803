"""Loading plugins: installed ones by entry point, others from a file or a package."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

from genbench.extension import version1
from genbench.extension.registry import PluginInfo, Plugins
from genbench.extension.sources import declared
from genbench.support.errors import BadInput, did_you_mean


def installed() -> list[EntryPoint]:
    """The entry points of the group, limited by `GENBENCH_PLUGINS=a,b` if it is set; imports nothing."""
    points = declared()
    allowed = os.environ.get("GENBENCH_PLUGINS")
    if allowed is None:
        return points
    names = [name for name in allowed.split(",") if name]
    known = {point.name for point in points}
    for name in names:
        if name not in known:
            raise BadInput(f"GENBENCH_PLUGINS={allowed}: no plugin {name!r}", did_you_mean(name, known))
    return [point for point in points if point.name in names]


def check_known(names: Iterable[str], files: Iterable[str]) -> None:
    """Raise BadInput for a mistyped model before anything is imported, unless `--plugin` files may define it."""
    if list(files):
        return
    known = {point.name for point in installed()}
    for name in names:
        if name not in known:
            raise BadInput(f"unknown model {name!r}", f"{did_you_mean(name, known)}; see `genbench models`")


def load_file(file: str) -> ModuleType:
    """Import a plugin from a .py file, or by the name of an importable package."""
    path = Path(file)
    if path.suffix != ".py" and not path.exists() and all(part.isidentifier() for part in file.split(".")):
        return importlib.import_module(file)
    target = path / "__init__.py" if file and path.is_dir() else path
    if not file or target.suffix != ".py" or not target.is_file():
        raise BadInput(
            "no such Python file or package", "give a .py file, a package's folder, or the name of an installed package"
        )
    path = path.resolve()
    name = f"genbench_plugin_{path.stem.replace('-', '_')}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(
        name, target, submodule_search_locations=[str(path)] if path.is_dir() else None
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _origin(point: EntryPoint) -> str:
    name, version = _distribution(point)
    return f"{name} {version}".strip() or point.value


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist else ("", "")


def load_into(plugins: Plugins, files: Iterable[str] = ()) -> Plugins:
    """Load every installed entry point and the given files or packages into `plugins`, each separately."""
    version1.offer()
    points = installed()
    names = [point.name.lower() for point in points]
    for point in points:
        info = PluginInfo(point.name, _origin(point), *_distribution(point))
        if (offers := names.count(point.name.lower())) > 1:
            info.state, info.reason = "duplicate", f"{offers} distributions offer {point.name!r}"
            plugins.infos.append(info)
        else:
            plugins.add(info, point.load)
    for file in (files := list(files)):
        name = Path(file).stem
        plugins.add(PluginInfo(name, f"--plugin {file}"), lambda file=file: load_file(file))  # type: ignore[misc]
    check_data(plugins)
    for file, info in zip(files, plugins.infos[len(points) :]):
        if info.state != "ok":
            raise info.fault(f"--plugin {file}: {info.reason}", f"fix it, then `genbench check-plugin {file}`")
    plugins.mark_duplicates()
    return plugins


def check_data(plugins: Plugins) -> None:
    """Mark as broken every plugin with a bad encoder, kind of source or dataset; datasets may use any plugin's kind."""
    from genbench.data.encoders import check_encoder
    from genbench.data.entries import make_entry
    from genbench.data.sources import SOURCES, check_source

    def check_dataset(name: str, table: Any) -> None:
        make_entry(name, table, Path.cwd(), "register_datasets", kinds)

    plugins.check_registered("register_encoders", check_encoder)
    plugins.check_registered("register_sources", check_source)
    kinds = SOURCES | {name: kind for name, kind, _ in plugins.nouns["register_sources"]}
    plugins.check_registered("register_datasets", check_dataset)
