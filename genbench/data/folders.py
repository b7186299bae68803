"""The folders that commands read and keep datasets in: the cache, and the data root for downloads."""

from __future__ import annotations

import os
from pathlib import Path

from genbench.support.errors import BadInput


def cache_root() -> Path:
    """`GENBENCH_CACHE`, or else `genbench` in the user's cache folder."""
    given = folder_of("GENBENCH_CACHE")
    return given or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "genbench"


def data_root(given: Path | None) -> Path:
    """`--data-root`, or else `GENBENCH_DATA`, or else `data` in the cache folder."""
    if given is not None:
        return as_folder("--data-root", given)
    return folder_of("GENBENCH_DATA") or cache_root() / "data"


def folder_of(variable: str) -> Path | None:
    """The folder that an environment variable names, whether or not it exists. Raises BadInput if it cannot be one."""
    text = os.environ.get(variable)
    if text is None:
        return None
    if not text:
        raise BadInput(f"{variable} is set but empty", f"unset {variable}, or set it to a folder")
    return as_folder(variable, Path(text))


def as_folder(source: str, path: Path) -> Path:
    """The path with `~` expanded. Raises BadInput, naming `source`, if it or a parent is a file."""
    try:
        path = path.expanduser()
        nearest = next((each for each in (path, *path.parents) if each.exists()), None)
    except (RuntimeError, ValueError, OSError) as error:
        raise BadInput(f"{source} {path}: {error}", "give a folder") from error
    if nearest is not None and not nearest.is_dir():
        raise BadInput(f"{source} {path}: {nearest} is a file", "give a folder")
    return path
