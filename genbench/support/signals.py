"""SIGINT and SIGTERM as exceptions, distinguished from a KeyboardInterrupt that a plugin itself raises."""

from __future__ import annotations

import signal
import threading

_received: set[int] = set()
"""Recorded here, since libraries that wait raise a KeyboardInterrupt of their own instead of the handler's."""


def interrupt_on_signals() -> None:
    """Let Ctrl-C and SIGTERM stop the command by a KeyboardInterrupt, each with its own exit code."""

    def interrupt(number: int, _: object) -> None:
        _received.add(number)
        raise KeyboardInterrupt

    _received.clear()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, interrupt)


def is_interruption(error: BaseException | None) -> bool:
    """Whether a signal, not a plugin, raised it; assumed of any KeyboardInterrupt while Python handles SIGINT."""
    by_python = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, KeyboardInterrupt) and (bool(_received) or by_python)


def exit_code() -> int:
    """The exit code of a command that a signal has stopped."""
    return 143 if signal.SIGTERM in _received else 130
