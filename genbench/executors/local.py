"""The local executor: one child process a job, from a forkserver that has torch loaded; a slot per device and job."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterable

from genbench.executors.schedule import Pool
from genbench.executors.supervise import supervise
from genbench.records.task import Task, Tell, Work
from genbench.support.processes import start_forkserver
from genbench.support.text import number

GRACE_SECONDS = 30.0
"""How long an interruption waits for the checkpoints of the running jobs."""


class Local:
    """This machine: `at_once` jobs on each group of devices, as far as their estimated memory fits together."""

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
        ends = [
            threading.Event() for _ in places
        ]  # a join that is interrupted takes its thread for ended (Python 3.11)
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
            finally:  # also at a second interrupt, which waits for nothing
                for process in multiprocessing.active_children():
                    process.kill()
            raise
        if faults:
            raise faults[0]


class Queue:
    """The tasks that wait for a place, and the threads that wait for a task."""

    def __init__(self, tasks: Iterable[Task], tell: Tell) -> None:
        self.waiting, self.tell = list(tasks), tell
        self.changed, self.closed = threading.Condition(), threading.Event()

    def take(self, pool: Pool) -> Task | None:
        """The next task for the pool, as soon as it can begin; None when there is none left."""
        with self.changed:
            while self.waiting and not self.closed.is_set():
                if (task := pool.take(self.waiting)) is not None:
                    if pool.exceeded_by(task):
                        self.tell(task.news("warning", text=alone(pool.need(task), pool.capacity, pool.group[0])))
                    return task
                self.changed.wait()
        return None

    def give_back(self, task: Task, pool: Pool) -> None:
        """The task has ended, and its place is free."""
        with self.changed:
            pool.running.remove(task)
            self.changed.notify_all()

    def close(self) -> None:
        """Nothing begins any more, and what runs should stop."""
        with self.changed:
            self.closed.set()
            self.changed.notify_all()


def alone(need: int, capacity: int, where: str) -> str:
    """What is said of a job that needs more memory than there is."""
    needs, there = number(need, "bytes"), number(capacity, "bytes")
    return f"it needs ~{needs} by its estimate, and {where} has {there}: it runs alone"


def pools_here(groups: Iterable[tuple[str, ...]], at_once: int) -> list[Pool]:
    """Each group of devices of this machine, with its memory."""
    import torch

    from genbench.devices import memory_for_jobs

    return [Pool(group, at_once, min(memory_for_jobs(torch.device(name)) for name in group)) for group in groups]


def threads_for(jobs: int, cores: int | None = None) -> int:
    """CPU threads of one job, all its processes together: the cores divided by the jobs at a time, at least 1."""
    return max(1, (cores or available_cores()) // jobs)


def available_cores() -> int:
    """The cores this process may use: those it is bound to, or fewer where OMP_NUM_THREADS says so."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wished = os.environ.get("OMP_NUM_THREADS", "")
    return min(bound, int(wished)) if wished.isdigit() and int(wished) else bound
