"""Which job runs when: the longest first, each only if enough memory is left."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from genbench.records.task import Task


def longest_first(tasks: Iterable[Task]) -> list[Task]:
    """Sort by estimated seconds, longest first and unknown ones before all; ties keep their order."""
    return sorted(tasks, key=lambda task: -math.inf if task.seconds is None else -task.seconds)


@dataclass
class Pool:
    """A group of devices, the tasks running on it at once, at most `slots`, and the bytes they may use together.

    A task of unknown need is assumed to need its share: the capacity divided by the slots.
    """

    group: tuple[str, ...]
    slots: int
    capacity: int
    running: list[Task] = field(default_factory=list)

    def need(self, task: Task) -> int:
        """Bytes."""
        return self.capacity // self.slots if task.memory_bytes is None else task.memory_bytes

    @property
    def used(self) -> int:
        """Bytes that the running tasks need in total."""
        return sum(map(self.need, self.running))

    def exceeded_by(self, task: Task) -> bool:
        """Whether the task does not fit at all, in which case it runs alone."""
        return self.need(task) > self.capacity

    def admits(self, task: Task) -> bool:
        """Whether the task can begin now."""
        if not self.running:
            return True
        return len(self.running) < self.slots and self.used + self.need(task) <= self.capacity

    def take(self, waiting: list[Task]) -> Task | None:
        """Move the first task that can begin from `waiting` to `running`, and return it."""
        for task in waiting:
            if self.admits(task):
                waiting.remove(task)
                self.running.append(task)
                return task
        return None


@dataclass(frozen=True)
class Forecast:
    """When each task would begin and all would have ended, in seconds from now, and the peak bytes on each pool."""

    begins: dict[str, float]
    seconds: float
    peak_bytes: dict[tuple[str, ...], int]


def forecast(tasks: Iterable[Task], pools: list[Pool]) -> Forecast:
    """Simulate the tasks on the pools, in this order; a task of unknown seconds counts as none."""
    waiting, now, begins = list(tasks), 0.0, {}
    peaks = {pool.group: 0 for pool in pools}
    ends: list[tuple[float, int, Task, Pool]] = []
    while waiting or ends:
        for pool in pools:
            while (task := pool.take(waiting)) is not None:
                begins[task.id] = now
                heapq.heappush(ends, (now + (task.seconds or 0.0), len(begins), task, pool))
            peaks[pool.group] = max(peaks[pool.group], pool.used)
        now, _, task, pool = heapq.heappop(ends)
        pool.running.remove(task)
    return Forecast(begins, now, peaks)


def forecast_in_turn(turns: Iterable[Iterable[Task]], pools: list[Pool]) -> Forecast:
    """The same of several lists of tasks, each begun when those before it have ended."""
    whole = Forecast({}, 0.0, {pool.group: 0 for pool in pools})
    for tasks in turns:
        part = forecast(tasks, pools)
        begins = {name: whole.seconds + begin for name, begin in part.begins.items()}
        peaks = {group: max(most, part.peak_bytes[group]) for group, most in whole.peak_bytes.items()}
        whole = Forecast(whole.begins | begins, whole.seconds + part.seconds, peaks)
    return whole
