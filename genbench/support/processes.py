"""Child processes: the server that they are forked from, how one ends with its parent, and how one has ended."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import wait

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """End this process when its parent ends, so that no orphan goes on writing.

    Linux also ends it when the server ends that it was forked from, which the parent's end ends: a process that hangs
    in foreign code runs no thread that could notice.
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


_starting = threading.Lock()


def ending(code: int) -> str:
    """How a process ended, by its exit code."""
    if code >= 0:
        return f"exited with code {code}"
    hint = ", possibly out of memory" if -code == signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-code).name}{hint}"


def start_forkserver() -> None:
    """Start the process that children are forked from, with torch loaded.

    It is started without the working folder on its path, where a folder called `genbench` would hide the package, and
    deaf to SIGTERM: a signal to the whole process group must not end it before the jobs have had their checkpoints.
    """
    from multiprocessing import forkserver

    with _starting:
        forkserver.set_forkserver_preload(["torch", "genbench.executors.child"])
        before = os.environ.get("PYTHONSAFEPATH")
        os.environ["PYTHONSAFEPATH"] = "1"
        mine = threading.current_thread() is threading.main_thread()
        handler = signal.signal(signal.SIGTERM, signal.SIG_IGN) if mine else None
        try:
            forkserver.ensure_running()
        finally:
            if mine:
                signal.signal(signal.SIGTERM, handler)
            del os.environ["PYTHONSAFEPATH"]
            if before is not None:
                os.environ["PYTHONSAFEPATH"] = before
