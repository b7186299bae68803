"""What the operating system denies, as the error a user meets: which path, why, and what helps."""

from __future__ import annotations

import errno
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genbench.support.errors import (
    BadInput,
    CorruptData,
    EnvironmentProblem,
    GenbenchError,
    Unreadable,
    removal,
    renaming,
)

TEMPORARY = ".genbench_tmp_"
"""How the names of unfinished writes begin."""
SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EACCES, errno.EPERM)
IN_THE_WAY = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY)
REMEDIES = {
    errno.EROFS: "choose a folder that may be written",
    errno.ELOOP: "remove one of the links that lead in a circle",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.EMFILE: "let it open more files: `ulimit -n 4096`",
    errno.ENFILE: "close other programs: this machine has no room for more open files",
    errno.EAGAIN: "run less at a time, or raise the limit of processes (`ulimit -u`)",
}
UNUSABLE = (errno.ELOOP, errno.ENAMETOOLONG)
"""What is wrong with a path itself, whatever lies there."""
ELSEWHERE = "choose another folder (--out, -o, GENBENCH_CACHE)"
UNWRITABLE = (*CLOSED, *IN_THE_WAY, errno.EROFS, *UNUSABLE)


def denial(error: OSError, path: Path | None = None) -> EnvironmentProblem | None:
    """The error for a user whom the system denies something, by default the path that `error` names.

    None if it is more likely a mistake of ours: a file that is not there, or an error that gives no number.
    """
    number, where, why = error.errno, path or _path_of(error), error.strerror or str(error)
    if number == errno.ENOENT and where is None:
        return _homeless()
    if number in SPACE:
        return EnvironmentProblem(_said(where, "no space left to write"), "free some space, then run again")
    if number not in REMEDIES and (number in (None, errno.ENOENT, errno.EEXIST) or where is None):
        return None
    return EnvironmentProblem(_said(where, why), REMEDIES[number] if where is None else _remedy(number, where))


def permission(path: Path) -> str:
    """The hint to let the user read a file or folder, or enter the first folder on the way there that is closed."""
    parents = reversed(path.absolute().parents)
    closed = next((folder for folder in parents if folder.is_dir() and not may(folder, os.X_OK)), path)
    name = shlex.quote(str(closed))
    if _owner(closed) in (None, os.geteuid()):
        return f"`chmod u+rX {name}`, then run again"
    return f"ask its owner for `chmod a+rX {name}`, then run again"


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the many errors of a full, read-only or forbidden disk into one EnvironmentProblem naming the path."""
    try:
        yield
    except GenbenchError:
        raise
    except Exception as error:
        number = _number_of(error)
        if isinstance(error, OSError) and not _is_near(_path_of(error), path):  # of what is read to be written there
            raise
        if number in SPACE:
            raise EnvironmentProblem(f"{path}: no space left to write", "free some space, then run again") from error
        if number in UNWRITABLE:
            hint = renaming(path) if number == errno.EISDIR and path.is_dir() else ELSEWHERE
            raise EnvironmentProblem(f"{path}: cannot write: {_why(number, path)}", hint) from error
        raise


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the errors of opening a file that genbench stored into CorruptData or Unreadable naming it."""
    try:
        yield
    except FileNotFoundError:
        raise CorruptData(f"{path}: missing", "run again") from None
    except (IsADirectoryError, NotADirectoryError) as error:
        raise CorruptData(f"{path}: {error.strerror}", removal(path)) from error
    except OSError as error:
        if error.errno is None:  # NumPy's report of a file that is too short
            raise CorruptData(f"{path}: {error}", removal(path)) from error
        if error.errno in UNUSABLE:
            raise CorruptData(f"{path}: {error.strerror}", REMEDIES[error.errno]) from error
        raise Unreadable(f"{path}: {error.strerror}", _remedy(error.errno, path)) from error


def look(path: Path, what: str = "") -> Path:
    """The path, absent or not, once it is known that this process may look at it; `what` names it.

    Raises BadInput for one that is too long or leads in a circle, EnvironmentProblem below a closed folder.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return path
    except OSError as error:
        where = f"{what} {path}".strip()
        if error.errno in UNUSABLE:
            raise BadInput(f"{where}: {error.strerror}", REMEDIES[error.errno]) from error
        raise EnvironmentProblem(f"{where}: {error.strerror}", _remedy(error.errno, path)) from error
    return path


def may_open(path: Path) -> None:
    """Raise EnvironmentProblem if a file may not be read."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise denial(error, path) or error from error


def _remedy(number: int | None, path: Path) -> str:
    """What helps if the system denies this path."""
    if number in CLOSED:
        return permission(path)
    return REMEDIES.get(number or 0, "look after this path, or its disk, then run again")


def _said(where: Path | None, what: str) -> str:
    return what if where is None else f"{where}: {what}"


def _path_of(error: OSError) -> Path | None:
    """The path that an error names, which for an open file may be its number."""
    return Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes | os.PathLike) else None


def _number_of(error: Exception) -> int | None:
    """The errno of an error, which safetensors only puts into the message."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _is_near(found: Path | None, path: Path) -> bool:
    """Whether a path is another, below it, on the way to it, or a temporary one for it; so is one that nobody named."""
    if found is None:
        return True
    found, path = found.absolute(), path.absolute()
    if found.is_relative_to(path.parent) and TEMPORARY in str(found.relative_to(path.parent)):
        return True
    return found.is_relative_to(path) or path.is_relative_to(found)


def _why(number: int, path: Path) -> str:
    """What keeps a path from being written: a file where a folder should be, or what the system says."""
    blocking = next((each for each in path.parents if each.is_file()), None) if number in IN_THE_WAY else None
    return os.strerror(number) if blocking is None else f"{blocking} is a file"


def _homeless() -> EnvironmentProblem | None:
    """The error of a process without a folder to work in, or without one for temporary files."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return EnvironmentProblem("the working folder is gone", "`cd` to a folder that exists")
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return EnvironmentProblem("no folder for temporary files may be written", "set TMPDIR to one that may")
    return None


def may(path: Path, mode: int) -> bool:
    """Whether this process may read, write or enter: a sum of `os.R_OK`, `os.W_OK` and `os.X_OK`."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None
