"""SIGINT and SIGTERM as exceptions, told apart from a KeyboardInterrupt that a plugin raises itself."""

from __future__ import annotations

import signal
import threading

from genbench.errors import Interrupted, Terminated


def interrupt_on_signals() -> None:
    """Let Ctrl-C and SIGTERM stop the command, each with an exit code of its own."""

    def interrupt(number: int, _: object) -> None:
        raise Terminated if number == signal.SIGTERM else Interrupted

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, interrupt)


def is_interruption(error: BaseException | None) -> bool:
    """Whether a signal has raised it: ours raise a class of their own, Python's handler KeyboardInterrupt itself."""
    if isinstance(error, Interrupted):
        return True
    return isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler
