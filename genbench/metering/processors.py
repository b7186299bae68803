"""Processor time: what processes computed, what they waited for, and what others computed meanwhile.

A thread that is ready to run waits until a processor is free. Linux counts that for every thread (the second number of
/proc/PID/task/TID/schedstat, see Documentation/scheduler/sched-stats), and it is no idleness of the thread's own: one
that sleeps, or waits for a file, a GPU or another thread, is not ready. Elsewhere only the use of all processors is
known, and that others used more of them than the threads left free.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from genbench.records.usage import LEAST_SECONDS, Usage
from genbench.support.cgroup import throttled_seconds

PROC = Path("/proc")
Thread = tuple[int, int]
"""Process and thread; without a thread if only the process as a whole is known."""


@dataclass(frozen=True)
class Reading:
    """Counters at one moment, in seconds, of which only differences have a meaning; None where not known.

    `computed` and `waited` are by thread. `busy` is what all programs together computed on the processors that this
    process may use.
    """

    computed: dict[Thread, float]
    waited: dict[Thread, float] | None
    busy: float | None
    throttled: float | None

    @classmethod
    def of(cls, processes: Iterable[int]) -> Reading:
        """The counters now; a process that has ended has none."""
        found = [times for process in processes for times in (_threads(process) or _process(process))]
        known = all(waited is not None for *_, waited in found)
        waits = {thread: waited for thread, _, waited in found if waited is not None}
        computed = {thread: seconds for thread, seconds, _ in found}
        return cls(computed, waits if known else None, _busy(), throttled_seconds())

    def until(self, later: Reading) -> Usage:
        """What was used from this reading to a later one; a thread that has ended meanwhile is left out."""
        computed = sum(_differences(self.computed, later.computed))
        waits = None if self.waited is None or later.waited is None else _differences(self.waited, later.waited)
        everyone, throttled = _difference(self.busy, later.busy), _difference(self.throttled, later.throttled)
        return Usage(
            processor_seconds=computed,
            waiting_seconds=None if waits is None else sum(waits),
            delayed_seconds=None if waits is None else max(waits, default=0.0),
            throttled_seconds=throttled,
            others_seconds=None if everyone is None else max(0.0, everyone - computed),
        )


def judged(usage: Usage, seconds: float, threads: int) -> Usage:
    """The usage with the share of processor time that `threads` threads had, of what they could use in `seconds`.

    The processor time lost is what they waited for, but no more than others took, since threads may also wait for one
    another. Threads that divide an operation wait at its end for the last of them: where one was delayed more than all
    were on average, the share is that of the time in which it was not.
    """
    computed, waited, rate = usage.processor_seconds, usage.waiting_seconds, usage.others(seconds)
    others = None if rate is None else rate * seconds
    if seconds < LEAST_SECONDS or not computed or (waited is None and others is None):
        return usage.model_copy(update={"share": None})
    if waited is None or usage.delayed_seconds is None:
        free = max(0, available() - threads) * seconds
        lost = min(max(0.0, threads * seconds - computed), max(0.0, (others or 0.0) - free))
        return usage.model_copy(update={"share": computed / (computed + lost)})
    taken = waited if others is None else others + (usage.throttled_seconds or 0.0)
    lost, delayed = min(waited, taken), min(usage.delayed_seconds, taken)
    return usage.model_copy(update={"share": min(computed / (computed + lost), max(0.0, 1 - delayed / seconds))})


def available() -> int:
    """How many processors this process may use."""
    return len(own_processors())


def own_processors() -> list[int]:
    """The numbers of the processors that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _threads(process: int) -> list[tuple[Thread, float, float | None]]:
    """What each thread of a process has computed and waited for; nothing if this kernel does not say."""
    found: list[tuple[Thread, float, float | None]] = []
    try:
        for entry in os.scandir(PROC / str(process) / "task"):
            try:
                computed, waited, turns = Path(entry, "schedstat").read_text().split()
            except FileNotFoundError:  # the thread has just ended, or the kernel counts nothing
                continue
            if int(turns):
                found.append(((process, int(entry.name)), int(computed) / 1e9, int(waited) / 1e9))
    except (OSError, ValueError):
        return []
    return found


def _process(process: int) -> list[tuple[Thread, float, float | None]]:
    import psutil

    try:
        times = psutil.Process(process).cpu_times()
    except (psutil.Error, OSError):
        return []
    return [((process, 0), times.user + times.system, None)]


def _busy() -> float | None:
    import psutil

    try:
        every = psutil.cpu_times(percpu=True)
        return sum(_computing(every[number]) for number in own_processors())
    except (psutil.Error, OSError, IndexError):
        return None


def _computing(times: object) -> float:
    """Seconds in which a processor was not idle; what another virtual machine took of it (steal) is use by others."""
    kinds = ("user", "nice", "system", "irq", "softirq", "steal")
    return float(sum(getattr(times, kind, 0.0) for kind in kinds))


def _differences(before: dict[Thread, float], after: dict[Thread, float]) -> list[float]:
    """By thread; one that is new began at 0."""
    return [seconds - before.get(thread, 0.0) for thread, seconds in after.items()]


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
