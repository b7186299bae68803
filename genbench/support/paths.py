"""Paths on this machine: where they lead, and what is there, passing over nothing that may not be read."""

from __future__ import annotations

import os
from pathlib import Path

from genbench.support.denials import denial, look, may
from genbench.support.errors import BadInput, CorruptData, EnvironmentProblem


def real(path: Path) -> Path:
    """The path without links, as far as they lead: unlike `Path.resolve`, it takes one that leads in a circle."""
    return Path(os.path.realpath(path))


def inside(folder: Path, name: str) -> Path:
    """The path below `folder` of a file named in data. Raises CorruptData if it, or a link, leads outside."""
    path = folder / name
    lexical = Path(name)
    if lexical.is_absolute() or ".." in lexical.parts or not real(path).is_relative_to(real(folder)):
        raise CorruptData(f"{path}: a link or path out of {folder}", "remove it: nothing outside is read or written")
    return path


def below(folder: Path) -> list[Path]:
    """All files and folders below a folder, sorted; none if it is absent.

    Unlike `Path.rglob` it passes over nothing: raises EnvironmentProblem for a folder that may not be read.
    """
    found = [
        Path(parent, name) for parent, folders, files in os.walk(folder, onerror=_refuse) for name in (*folders, *files)
    ]
    return sorted(found)


def listed(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing if it is absent. Raises EnvironmentProblem if it may not be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        _refuse(error)
        return []


def _refuse(error: OSError) -> None:
    """Raise what keeps a folder from being listed, unless it is none."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise denial(error) or error from error


def check_links(folder: Path) -> None:
    """Raise CorruptData if a link below `folder` leads outside, where writing would overwrite something else."""
    for path in below(folder):
        if path.is_symlink():
            inside(folder, str(path.relative_to(folder)))


def as_folder(source: str, path: Path) -> Path:
    """The path with `~` expanded. Raises BadInput, naming `source`, if it or a parent is a file, or as `look`."""
    try:
        path = look(path.expanduser(), source)
        nearest = next((each for each in (path, *path.parents) if each.exists()), None)
    except (RuntimeError, ValueError) as error:
        raise BadInput(f"{source} {path}: {error}", "give a folder") from error
    if nearest is not None and not nearest.is_dir():
        raise BadInput(f"{source} {path}: {nearest} is a file", "give a folder")
    return path


def check_elsewhere(what: str, path: Path) -> None:
    """Raise BadInput if the working folder is `path` or below it: who works there would lose it as it is replaced."""
    if real(Path.cwd()).is_relative_to(real(path)):
        raise BadInput(f"{what}: it is the working folder, or contains it", "give a new folder, or work elsewhere")


def check_writable(source: str, path: Path) -> None:
    """Raise as `as_folder`, and EnvironmentProblem if nothing can be written there; creates nothing."""
    path = as_folder(source, path).absolute()
    found = next(each for each in (path, *path.parents) if each.exists())
    if not may(found, os.W_OK | os.X_OK):
        raise EnvironmentProblem(f"{source} {path}: {found} is not writable", f"choose another folder with {source}")
