"""A clock that stands still while this process is stopped: by Ctrl-Z, by a batch system, or in a frozen container.

A thread looks at the time every TICK_SECONDS. Nothing that the process waits for delays it: not files, nor a network, a
GPU or another process. It is late if code does not let go of the interpreter, whether that computes or waits: then the
thread asks for it at every switch interval, each time by a voluntary context switch. It is late if no processor is
free: the kernel counts for how long. Or it is late because the whole process is stopped, and counts nothing. What the
first two leave of a delay is a stop. A slow step is therefore never one, however slow; what cannot be told apart counts
as running, as do stops shorter than STOP_SECONDS. Where the system counts only whole processes, what these computed is
taken from a delay. A sleeping computer needs none of this: its monotonic clock stands still, too.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from contextlib import suppress
from typing import NamedTuple

TICK_SECONDS = 0.1
STOP_SECONDS = 1.0
PATIENCE = 10_000
"""Milliseconds, at least, that a reader gives the thread to see a stop."""


class Stops(NamedTuple):
    """How often this process has been stopped, and for how long together."""

    number: int = 0
    seconds: float = 0.0


class Turns:
    """For how long the thread that makes it has wanted to run: for the interpreter, and for a processor.

    The second number of schedstat is the time on a run queue (Linux, Documentation/scheduler/sched-stats).
    """

    def __init__(self) -> None:
        self.thread, self.queue = getattr(resource, "RUSAGE_THREAD", None), -1
        with suppress(OSError):
            self.queue = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def seconds(self) -> float:
        """Seconds; 0 where the system counts only whole processes."""
        if self.thread is None:
            return 0.0
        waited = int(os.pread(self.queue, 64, 0).split()[1]) / 1e9 if self.queue >= 0 else 0.0
        return resource.getrusage(self.thread).ru_nvcsw * sys.getswitchinterval() + waited


class Heartbeat:
    """The thread that looks at the time, and what it has seen: when it last looked, and the stops until then."""

    def __init__(self) -> None:
        self.seen = (time.perf_counter(), Stops())  # replaced as a whole: others read it at any moment
        threading.Thread(target=self.beat, name="genbench clock", daemon=True).start()

    def beat(self) -> None:
        """Look again and again; losing its turn between reading the time and the counters is never taken for a stop."""
        turns = Turns()
        computed, kept = time.process_time(), turns.seconds()
        self.seen = (time.perf_counter(), Stops())
        while True:
            time.sleep(TICK_SECONDS)
            before, stops = self.seen
            late = time.perf_counter() - before - TICK_SECONDS
            earlier, computed, kept = (computed, kept), time.process_time(), turns.seconds()
            missed = late - max(computed - earlier[0], kept - earlier[1])
            if missed > STOP_SECONDS:
                stops = Stops(stops.number + 1, stops.seconds + missed)
            self.seen = (time.perf_counter(), stops)


_heartbeat: Heartbeat | None = None
_starting = threading.Lock()


def now() -> float:
    """Seconds since an arbitrary moment, without those in which the process was stopped."""
    moment, stops = _read()
    return moment - stops.seconds


def stops() -> Stops:
    """The stops since the clock was first read in this process."""
    return _read()[1]


def _read() -> tuple[float, Stops]:
    """The moment, and all stops before it: right after a stop this waits until the thread has seen that, too.

    Should the thread be gone, as at the interpreter's end, no further stop is seen.
    """
    global _heartbeat
    if _heartbeat is None:
        with _starting:
            _heartbeat = _heartbeat or Heartbeat()
    for _ in range(PATIENCE):
        seen, stops = _heartbeat.seen
        moment = time.perf_counter()
        if moment - seen <= STOP_SECONDS:
            break
        time.sleep(0.001)
    return moment, stops


def _forget() -> None:
    """A forked process has no thread of its parent's."""
    global _heartbeat, _starting
    _heartbeat, _starting = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
