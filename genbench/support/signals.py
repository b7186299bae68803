"""SIGINT and SIGTERM as exceptions, told apart from a KeyboardInterrupt that a plugin raises itself."""

from __future__ import annotations

import signal
import threading

_received: set[int] = set()
"""Kept here, since libraries that wait raise a KeyboardInterrupt of their own in place of the handler's."""


def interrupt_on_signals() -> None:
    """Let Ctrl-C and SIGTERM stop the command by a KeyboardInterrupt, each with an exit code of its own."""

    def interrupt(number: int, _: object) -> None:
        _received.add(number)
        raise KeyboardInterrupt

    _received.clear()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, interrupt)


def is_interruption(error: BaseException | None) -> bool:
    """Whether a signal has raised it, and not a plugin; without handlers of ours, Python's own is taken to have."""
    by_python = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, KeyboardInterrupt) and (bool(_received) or by_python)


def exit_code() -> int:
    """That of a command which a signal has stopped."""
    return 143 if signal.SIGTERM in _received else 130
