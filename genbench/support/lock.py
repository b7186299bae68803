"""The lock that keeps a second process out of a run folder, and dies with its holder."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from genbench.support.denials import denial, disk_errors
from genbench.support.errors import Busy, EnvironmentProblem
from genbench.support.paths import check_links, real
from genbench.support.progress import stop_if_requested
from genbench.support.store import make_folder

LOOK_SECONDS = 0.5
HELD = (errno.EACCES, errno.EAGAIN)
"""What POSIX has a system say if another process has the lock."""
ELSEWHERE = "choose a folder on a disk that has POSIX record locks (--out, GENBENCH_CACHE), or mount this one with them"
FLOCK, KIND, PID = ("hhqqi4x", 0, 4) if sys.platform == "linux" else ("qqihhi", 3, 2)
"""The `struct flock` of this system, and the places of the kind of lock and of the process in it."""
_held: set[Path] = set()
_guard = threading.Lock()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises Busy, naming the holder, if a live process, this one included, has it.

    Raises EnvironmentProblem where the file system has no locks: two processes would spoil each other's runs unnoticed.

    A POSIX record lock dies with its process even if children live on (flock would not). It is also lost when the
    process closes any other descriptor of the file, so nothing else opens it, and this never opens it twice.
    """
    with _alone(folder):
        with disk_errors(folder):
            make_folder(folder)
            check_links(folder)
            file = (folder / ".lock").open("a+")
        with file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in HELD:
                    what = f"{folder}: no locks on this file system: {error.strerror}"
                    raise EnvironmentProblem(what, ELSEWHERE) from error
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise Busy(f"{folder}: in use by {holder}", "wait for it, or use another --out") from error
            file.truncate(0)
            file.write(f"{socket.gethostname()}, process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}")
            file.flush()
            yield
            file.truncate(0)


@contextmanager
def awaited(folder: Path, tell: Callable[[str], object] = lambda _: None) -> Iterator[None]:
    """Hold the folder's lock, after waiting for whoever has it, which `tell` is told once."""
    told = False
    while True:
        try:
            with locked(folder):
                yield
                return
        except Busy as busy:
            if not told:
                tell(busy.message.removeprefix(f"{folder}: in use by "))
                told = True
            stop_if_requested()
            time.sleep(LOOK_SECONDS)


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock: where it runs, its number there, and since when in its local time.

    `seconds` is how long it has had it. What is not known is "", 0 or None.
    """

    host: str = ""
    pid: int = 0
    since: str = ""
    seconds: float | None = None


def holder(folder: Path) -> Holder | None:
    """Who holds the folder's lock; None if nobody does.

    Asking takes no lock, so it keeps nobody out, and writes nothing. Raises EnvironmentProblem if nobody can know.
    """
    with _guard:
        if real(folder) in _held:  # opening and closing the file would lose this process its own lock
            return Holder(socket.gethostname(), os.getpid())
        try:
            with (folder / ".lock").open("rb") as file:
                pid = _locked_by(file.fileno())
                if pid is None:
                    return None
                words, began = file.read().decode(errors="replace"), os.fstat(file.fileno()).st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            lockless = EnvironmentProblem(f"{folder}: no locks on this file system: {error.strerror}", ELSEWHERE)
            raise (denial(error, folder / ".lock") if error.filename else lockless) or lockless from error
    said = re.fullmatch(r"(.*), process (\d+), since (.*)", words)
    here = socket.gethostname()
    if said is None or (said[1] == here and pid > 0 and int(said[2]) != pid):  # it has not written its own words yet
        return Holder(here if pid > 0 else "", max(pid, 0))
    return Holder(said[1], int(said[2]), said[3], max(0.0, time.time() - began))


def _locked_by(descriptor: int) -> int | None:
    """The number of the process that has a lock on an open file, at most 0 if it is not of this machine; or None."""
    asked: list[int] = [0] * len(struct.unpack(FLOCK, bytes(struct.calcsize(FLOCK))))
    asked[KIND] = fcntl.F_WRLCK
    told = struct.unpack(FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(FLOCK, *asked)))
    return None if told[KIND] == fcntl.F_UNLCK else told[PID]


def in_use(folder: Path) -> bool:
    """Whether a live process, this one included, holds the folder's lock. Raises as `holder`."""
    return holder(folder) is not None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Exclude other threads of this process, which a POSIX record lock does not."""
    place = real(folder)
    with _guard:
        if place in _held:
            raise Busy(f"{folder}: in use by this process, {os.getpid()}", "wait for it, or use another --out")
        _held.add(place)
    try:
        yield
    finally:
        _held.discard(place)
