"""The lock that keeps a second process out of a run folder, and dies with its holder."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from genbench.support.denials import disk_errors
from genbench.support.errors import Busy, EnvironmentProblem
from genbench.support.paths import check_links, real
from genbench.support.progress import stop_if_requested
from genbench.support.store import make_folder

LOOK_SECONDS = 0.5
HELD = (errno.EACCES, errno.EAGAIN)
"""What POSIX has a system say if another process has the lock."""
ELSEWHERE = "choose a folder on a disk that has POSIX record locks (--out, GENBENCH_CACHE), or mount this one with them"
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
def awaited(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, after waiting for whoever has it."""
    while True:
        try:
            with locked(folder):
                yield
                return
        except Busy:
            stop_if_requested()
            time.sleep(LOOK_SECONDS)


def in_use(folder: Path) -> bool:
    """Whether a live process holds the folder's lock."""
    try:
        with locked(folder) if folder.exists() else nullcontext():
            return False
    except Busy:
        return True


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
