"""The folders of datasets: the cache, and the data root where torchvision's lie."""

from __future__ import annotations

import os
from pathlib import Path

from genbench.errors import BadInput


def cache_root() -> Path:
    """`GENBENCH_CACHE`, or `genbench` in the user's cache folder."""
    given = folder_of("GENBENCH_CACHE")
    return given or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "genbench"


def data_root(given: Path | None) -> Path:
    """`--data-root`, or `GENBENCH_DATA`, or `data` in the cache folder."""
    if given is not None:
        return as_folder("--data-root", given)
    return folder_of("GENBENCH_DATA") or cache_root() / "data"


def folder_of(variable: str) -> Path | None:
    """The folder that an environment variable names, there or not. Raises BadInput where it cannot be one."""
    text = os.environ.get(variable)
    if text is None:
        return None
    if not text:
        raise BadInput(f"{variable} is set and empty", f"unset {variable}, or set it to a folder")
    return as_folder(variable, Path(text))


def as_folder(source: str, path: Path) -> Path:
    """The path, `~` expanded. Raises BadInput, naming where it came from, if it is in the place of a file."""
    try:
        path = path.expanduser()
        found = next((each for each in (path, *path.parents) if each.exists()), None)
    except (RuntimeError, ValueError, OSError) as error:
        raise BadInput(f"{source} {path}: {error}", "give a folder") from error
    if found is not None and not found.is_dir():
        raise BadInput(f"{source} {path}: {found} is a file", "give a folder")
    return path
