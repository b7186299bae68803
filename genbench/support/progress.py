"""Progress of this process's job, its last words if it dies, and the request to stop that a signal makes."""

from __future__ import annotations

import faulthandler
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genbench.support.denials import TEMPORARY
from genbench.support.errors import Cancelled
from genbench.support.pace import Facts, Pace, is_sound
from genbench.support.store import refuse_constant, scratch_file

if TYPE_CHECKING:
    from torch.nn import Module

Listener = Callable[[str, float, str, Facts], None]
WHERE, DUMP, NEWS = f"{TEMPORARY}where", f"{TEMPORARY}dump", f"{TEMPORARY}news"
WIDTH = 64
BETWEEN_SECONDS = 0.5
"""Of two reports from within a call."""
READINGS = 3
"""How often news are read that are being written, before they count as none."""
_listener: Listener | None = None
_part: tuple[str, float, float] | None = None
_said = float("-inf")
_stop = False
_watch: Watch | None = None
_pace = Pace()


def listen(listener: Listener | None) -> None:
    """Send (stage, share done in [0, 1], text, facts) of this process's job to `listener` from now on."""
    global _listener
    _listener = listener


def report(stage: str, share: float, text: str = "", facts: Facts | None = None) -> None:
    """Report how far the job is to the listener, if there is one, and to whoever looks into its folder.

    `facts` are plain data about it, finite numbers; what follows from their pace is added (`Pace.facts`).
    """
    alive()
    told = _pace.facts(stage, share, text, facts or {})
    if _watch is not None:
        _watch.tell({"time": time.time(), "stage": stage, "share": share, "text": text, "facts": told})
    if _listener is not None:
        _listener(stage, share, text, told)


@contextmanager
def part(stage: str, begin: float, end: float) -> Iterator[None]:
    """`report_within` counts within the block as this part of a stage."""
    global _part
    _part = (stage, begin, end)
    try:
        yield
    finally:
        _part = None


def report_within(share: float) -> None:
    """How far a long call is, in [0, 1]: passed on now and then, and a sign of life."""
    global _said
    alive()
    if _part is not None and (now := time.monotonic()) > _said + BETWEEN_SECONDS:
        _said = now
        stage, begin, end = _part
        report(stage, begin + (end - begin) * min(max(share, 0.0), 1.0))


@contextmanager
def alive_at_calls(networks: Iterable[Module]) -> Iterator[None]:
    """Each call of one of the networks is a sign of life within the block: slow is not hung."""
    handles = [network.register_forward_pre_hook(lambda *_: alive()) for network in networks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def request_stop() -> None:
    """Ask the job of this process to checkpoint and stop."""
    global _stop
    _stop = True


def stop_requested() -> bool:
    """Whether the job should stop at the next step."""
    alive()
    return _stop


def stop_if_requested() -> None:
    """Raise Cancelled if a signal requested it; called between blocks of work that are cheap to repeat."""
    if stop_requested():
        raise Cancelled("stopped between two blocks", "run again to go on from there")


# The last words of a process that dies without a report


class Watch:
    """Files in the run folder: where the job is, its traceback when it crashes or makes no progress, its latest news.

    `limit` is the longest time without progress, in seconds, or None. A thread of the interpreter's enforces it and
    ends the process even if Python itself hangs.
    """

    def __init__(self, folder: Path, limit: float | None) -> None:
        self.where, self.dump = scratch_file(folder / WHERE), scratch_file(folder / DUMP)
        self.news, self.written = scratch_file(folder / NEWS), 0
        self.limit, self.armed = limit, float("-inf")
        faulthandler.enable(self.dump)

    def at(self, hook: str, step: int | None) -> None:
        text = hook if step is None else f"{hook} {step}"
        os.pwrite(self.where.fileno(), text.encode().ljust(WIDTH)[:WIDTH], 0)
        self.alive()

    def tell(self, news: Facts) -> None:
        """Keep the latest news, as JSON; those that cannot be written are no harm."""
        if news["stage"] in ("warning", "note"):
            return
        text = json.dumps(news).encode()
        self.written = max(self.written, len(text))
        with suppress(OSError):
            os.pwrite(self.news.fileno(), text.ljust(self.written), 0)

    def alive(self) -> None:
        if self.limit is not None and time.monotonic() > self.armed + self.limit / 20:
            self.armed = time.monotonic()
            faulthandler.dump_traceback_later(self.limit, exit=True, file=self.dump)

    def end(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        faulthandler.disable()
        for file in (self.where, self.dump, self.news):
            file.close()
            Path(os.fsdecode(file.name)).unlink(missing_ok=True)


def watch(folder: Path, limit: float | None) -> None:
    """Keep last words in the folder from now on; only the holder of its lock may call this."""
    global _watch
    _watch = Watch(folder, limit)


def unwatch() -> None:
    """Remove the last words: the job has reported its own end."""
    global _watch
    if _watch is not None:
        _watch.end()
        _watch = None


def at(hook: str, step: int | None = None) -> None:
    """Note which hook the job is in, and at which step of its training."""
    if _watch is not None:
        _watch.at(hook, step)


def alive() -> None:
    """Note that there is progress."""
    if _watch is not None:
        _watch.alive()


@dataclass(frozen=True)
class LastWords:
    """What a dead process has left: the hook and the step it had reached, and a traceback if there is one."""

    hook: str = ""
    step: int | None = None
    traceback: str = ""

    @property
    def hung(self) -> bool:
        """Whether it was killed because it made no progress."""
        return self.traceback.startswith("Timeout (")


def last_words(folder: Path) -> LastWords:
    """The last words in a run folder; only the holder of its lock may read them, before it sweeps."""
    words, dump = (folder / name for name in (WHERE, DUMP))
    hook, _, step = (words.read_bytes().decode().strip() if words.exists() else "").partition(" ")
    text = dump.read_text(encoding="utf-8", errors="replace") if dump.exists() else ""
    return LastWords(hook, int(step) if step else None, text)


def latest_news(folder: Path) -> Facts:
    """The latest news in a run folder, by whoever works or worked there; nothing if there are none.

    They are written while they are read: what is not whole is read again.
    """
    for _ in range(READINGS):
        with suppress(OSError, ValueError):
            news = json.loads((folder / NEWS).read_bytes(), parse_constant=refuse_constant)
            if isinstance(news, dict) and is_sound(news.get("facts")):
                return news
    return {}
