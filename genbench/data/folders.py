"""The folders that commands read and keep datasets in: the cache, and the data root for downloads."""

from __future__ import annotations

import os
from pathlib import Path

from genbench.support.denials import look
from genbench.support.errors import BadInput, EnvironmentProblem
from genbench.support.paths import as_folder


def cache_root() -> Path:
    """`GENBENCH_CACHE`, or else `genbench` in the user's cache folder. Raises EnvironmentProblem if there is none."""
    given = folder_of("GENBENCH_CACHE")
    if given is not None:
        return given
    try:
        return look(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "genbench", "the cache")
    except RuntimeError:
        what = f"user {os.getuid()} has no home folder, where the cache would be"
        raise EnvironmentProblem(what, "set GENBENCH_CACHE to a folder that may be written") from None


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
