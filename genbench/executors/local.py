"""The local executor: one child process per job, forked from a server that has torch loaded; slots on each device."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterable

from genbench.executors.schedule import Pool
from genbench.executors.supervise import supervise
from genbench.metering.processors import available
from genbench.records.task import Task, Tell, Work
from genbench.support.cgroup import cpu_limits
from genbench.support.processes import start_forkserver
from genbench.support.text import number

GRACE_SECONDS = 30.0
"""How long an interruption waits for the running jobs to write checkpoints."""


class Local:
    """This machine: up to `at_once` jobs on each group of devices, as long as their estimated memory fits."""

    def run(self, work: Work, tell: Tell) -> None:
        start_forkserver()
        queue = Queue(work.tasks, tell)
        faults: list[BaseException] = []

        def serve(pool: Pool, ended: threading.Event) -> None:
            try:
                while (task := queue.take(pool)) is not None:
                    supervise(task.on(pool.group), tell, queue.closed.is_set)
                    queue.give_back(task, pool)
            except BaseException as fault:
                faults.append(fault)
                queue.close()
            finally:
                ended.set()

        places = [pool for pool in pools_here(work.groups, work.at_once) for _ in range(pool.slots)]
        ends = [threading.Event() for _ in places]  # an interrupted join takes its thread for finished (Python 3.11)
        for place, ended in zip(places, ends):
            threading.Thread(target=serve, args=(place, ended), daemon=True).start()
        try:
            for ended in ends:
                while not ended.wait(0.2):
                    pass
        except KeyboardInterrupt:
            queue.close()
            deadline = time.monotonic() + GRACE_SECONDS
            try:
                for ended in ends:
                    ended.wait(max(0.0, deadline - time.monotonic()))
            finally:  # also on a second interrupt, which does not wait
                for process in multiprocessing.active_children():
                    process.kill()
            raise
        if faults:
            raise faults[0]


class Queue:
    """The tasks waiting for a slot, and the threads waiting for a task."""

    def __init__(self, tasks: Iterable[Task], tell: Tell) -> None:
        self.waiting, self.tell = list(tasks), tell
        self.changed, self.closed = threading.Condition(), threading.Event()

    def take(self, pool: Pool) -> Task | None:
        """The next task for the pool, once it can begin; None if no task is left."""
        with self.changed:
            while self.waiting and not self.closed.is_set():
                if (task := pool.take(self.waiting)) is not None:
                    if pool.exceeded_by(task):
                        self.tell(task.news("warning", text=alone(pool.need(task), pool.capacity, pool.group[0])))
                    return task
                self.changed.wait()
        return None

    def give_back(self, task: Task, pool: Pool) -> None:
        """Free the slot of a task that has ended."""
        with self.changed:
            pool.running.remove(task)
            self.changed.notify_all()

    def close(self) -> None:
        """Start no more tasks, and ask the running ones to stop."""
        with self.changed:
            self.closed.set()
            self.changed.notify_all()


def alone(need: int, capacity: int, where: str) -> str:
    """The warning about a job that needs more memory than there is."""
    needs, there = number(need, "bytes"), number(capacity, "bytes")
    return f"estimated to need ~{needs}, but {where} has {there}: it runs alone"


def pools_here(groups: Iterable[tuple[str, ...]], at_once: int) -> list[Pool]:
    """A pool for each group of devices of this machine, with its memory."""
    import torch

    from genbench.devices import memory_for_jobs

    return [Pool(group, at_once, min(memory_for_jobs(torch.device(name)) for name in group)) for group in groups]


def threads_for(jobs: int, cores: int | None = None) -> int:
    """CPU threads of one job, all its processes together: the cores divided by the concurrent jobs, at least 1."""
    return max(1, (cores or available_cores()) // jobs)


def available_cores() -> int:
    """The cores this process may use: those it is bound to, or fewer by its quota (cgroup) or OMP_NUM_THREADS.

    Of a quota of 2.5 two are used: with three threads the system would stop all of them, again and again.
    """
    wished = os.environ.get("OMP_NUM_THREADS", "")
    limits = [*map(int, cpu_limits()), *([int(wished)] if wished.isdecimal() and int(wished) else [])]
    return max(1, min([available(), *limits]))
