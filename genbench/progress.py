"""Progress of the job in this process, to whoever listens, and the wish to stop that a signal leaves behind."""

from __future__ import annotations

from collections.abc import Callable

from genbench.errors import Cancelled

Listener = Callable[[str, float, str], None]
_listener: Listener | None = None
_stop = False


def listen(listener: Listener | None) -> None:
    """Send (stage, share done in [0, 1], text) of this process's job to `listener` from now on."""
    global _listener
    _listener = listener


def report(stage: str, share: float, text: str = "") -> None:
    """Tell the listener, if there is one, how far the job is."""
    if _listener is not None:
        _listener(stage, share, text)


def request_stop() -> None:
    """Ask the job of this process to checkpoint and stop."""
    global _stop
    _stop = True


def stop_requested() -> bool:
    """Whether the job should stop at the next step."""
    return _stop


def stop_if_requested() -> None:
    """Raise Cancelled where a signal asked for it; called between blocks of work that are cheap to do again."""
    if _stop:
        raise Cancelled("stopped between two blocks", "run again to go on from there")
