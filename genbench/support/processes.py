"""Child processes: started from a server that has torch loaded, heard until they end, ended with their parent."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import util
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any, Concatenate, ParamSpec

from genbench.support.errors import EnvironmentProblem, GenbenchError, as_error, plain_error

P = ParamSpec("P")
Say = Callable[[Any], None]
"""Sends a message, plain data, to the parent. Raises OSError if the parent is gone."""
PR_SET_PDEATHSIG = 1
PRELOADED = [
    "torch", "torch._dynamo", "scipy.linalg", "scipy.special", "genbench.executors.child", "genbench.running.run",
    "genbench.evaluate.classifier",
]  # fmt: skip
"""What every job would import for itself, in seconds; the first optimizer of a process imports `torch._dynamo`."""
LONGEST_FOLDER = 70
"""Bytes: with the names that multiprocessing adds, the address of a socket then has the 104 that any system allows."""
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
_starting = threading.Lock()


class Child:
    """A process that runs `main(say, *arguments)`, a module-level function; leaving it as a context manager kills it.

    It speaks and its parent listens. A GenbenchError that ends `main` is its last message, and its exit code is then 1.
    It ends with its parent and ignores SIGINT, which is the parent's to handle, unless `main` decides otherwise.
    """

    def __init__(
        self, name: str, main: Callable[Concatenate[Say, P], None], *arguments: P.args, **options: P.kwargs
    ) -> None:
        start_forkserver()
        context = multiprocessing.get_context("forkserver")
        self._receiver, sender = context.Pipe(duplex=False)
        self.process = context.Process(target=_run, args=(sender, main, arguments, options), name=name)
        with _without_main():
            try:
                self.process.start()
            except (EOFError, ConnectionError) as error:
                raise EnvironmentProblem(
                    "the server that starts processes was killed", "free memory, if there is little; then run again"
                ) from error
        sender.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it speaks or ends; False if it does neither in time."""
        return bool(wait([self._receiver, self.process.sentinel], seconds))

    def said(self, patience: float | None = 0.0) -> Iterator[Any]:
        """Yield its messages until it ends, or is silent for `patience` seconds; None waits for as long as it takes.

        Raises the error that it reported, with the child's traceback as a note.
        """
        while self.wait(patience) and self._receiver.poll():
            try:
                message, failure = self._receiver.recv()
            except (EOFError, OSError):
                return
            if failure is not None:
                plain, text = failure
                error = as_error(plain)
                error.add_note(text)
                raise error
            yield message

    def ending(self) -> str:
        """How it ended: `exited with code 3`, or by which signal; "" while it runs."""
        code = self.process.exitcode
        if code is None:
            return ""
        if code >= 0:
            return f"exited with code {code}"
        hint = ", possibly out of memory" if -code == signal.SIGKILL else ""
        return f"was ended by {signal.Signals(-code).name}{hint}"

    def close(self) -> None:
        """End it, whatever it is doing, and wait until it has ended."""
        self.process.kill()
        self.process.join()
        self._receiver.close()


@contextmanager
def _without_main() -> Iterator[None]:
    """Let a child that is started here not import `__main__`, of which it needs nothing.

    A script that starts jobs outside `if __name__ == "__main__"` would start them again in each of them.
    """
    with _starting:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def _run(sender: Connection, main: Callable[..., None], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """The child's side."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        main(lambda message: sender.send((message, None)), *arguments, **options)
    except GenbenchError as error:
        sender.send((None, (plain_error(error), traceback.format_exc())))
        raise SystemExit(1) from None


def die_with_parent() -> None:
    """End this process when its parent ends, so that no orphan goes on writing.

    On Linux the kernel also kills it when the server it was forked from ends, and the server ends with the parent: a
    process that hangs in foreign code runs no thread that could notice.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def shorten_sockets() -> None:
    """Let multiprocessing keep its sockets elsewhere if the path of the folder for temporary files is too long.

    Raises EnvironmentProblem if no other folder may be written.
    """
    before = tempfile.gettempdir()
    if len(os.fsencode(before)) <= LONGEST_FOLDER:
        return
    try:
        for folder in SHORT_FOLDERS:
            tempfile.tempdir = folder
            with suppress(OSError):
                util.get_temp_dir()
                return
    finally:
        tempfile.tempdir = before
    what = f"TMPDIR={before}: a path of {len(os.fsencode(before))} bytes is too long for the addresses of sockets"
    raise EnvironmentProblem(what, f"set TMPDIR to a folder whose path has at most {LONGEST_FOLDER} bytes")


def start_forkserver() -> None:
    """Start the server that children are forked from, with torch loaded, unless it is running.

    The working folder is kept off its path, where a folder named `genbench` would hide the package, and it ignores
    SIGTERM: a signal to the whole process group must not end it before the jobs have written their checkpoints.
    """
    from multiprocessing import forkserver

    with _starting:
        forkserver.set_forkserver_preload(PRELOADED)
        before = os.environ.get("PYTHONSAFEPATH")
        os.environ["PYTHONSAFEPATH"] = "1"
        mine = threading.current_thread() is threading.main_thread()
        handler = signal.signal(signal.SIGTERM, signal.SIG_IGN) if mine else None
        try:
            shorten_sockets()
            forkserver.ensure_running()
        finally:
            if mine:
                signal.signal(signal.SIGTERM, handler)
            del os.environ["PYTHONSAFEPATH"]
            if before is not None:
                os.environ["PYTHONSAFEPATH"] = before
