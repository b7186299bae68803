"""The Ray executor: each job is a Ray task with its resources, on the cluster at RAY_ADDRESS or one started here.

A task starts the command that any executor may use, in its own process, so that whatever a plugin does to its process
leaves Ray unharmed. Only JSON crosses, and records go to the output folder, which all nodes share.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from genbench.executors.command import run_by_command
from genbench.executors.local import GRACE_SECONDS, alone
from genbench.executors.supervise import record_death
from genbench.records.task import News, Task, Tell, Work, is_last
from genbench.support.errors import EnvironmentProblem, GenbenchError, first_line

TRIES = 3
"""How many times a job is started if its node or its Ray process is lost."""
LOOK_SECONDS = 0.5
CONNECT_SECONDS = 10.0
LEASE_SECONDS = 120.0
"""How long the file system may keep the lock held by a lost node."""


class RayCluster:
    """A Ray cluster, or one on this machine alone if RAY_ADDRESS is not set."""

    def __init__(self) -> None:
        if importlib.util.find_spec("ray") is None:
            raise EnvironmentProblem("--executor ray: Ray is not installed", 'pip install "genbench[ray]"')

    def run(self, work: Work, tell: Tell) -> None:
        with connected() as ray:
            Driver(ray, tell).run(work.tasks)


@contextmanager
def connected() -> Iterator[Any]:
    """Ray, connected for the duration of the block. Raises EnvironmentProblem if its cluster cannot be joined."""
    address = os.environ.get("RAY_ADDRESS") or "local"
    check_reachable(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises ConnectionError, ValueError, RuntimeError and others here
        raise EnvironmentProblem(
            f"--executor ray: cannot join the cluster at RAY_ADDRESS={address}: {briefly(error)}",
            "a cluster started with a token needs RAY_AUTH_MODE=token here as well",
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray has replaced it
    try:
        yield ray
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        raise EnvironmentProblem(f"--executor ray: Ray failed: {briefly(error)}", "run again") from error
    finally:
        ray.shutdown()


def check_reachable(address: str) -> None:
    """Raise EnvironmentProblem if nothing listens at host:port; Ray itself would keep trying for minutes."""
    host, _, port = address.rpartition(":")
    if "//" in address or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        what = f"--executor ray: nothing answers at RAY_ADDRESS={address}: {error.strerror or error}"
        raise EnvironmentProblem(what, "start the cluster, or unset RAY_ADDRESS to use this machine alone") from error


def briefly(error: Exception) -> str:
    """The type and first sentence of an error of Ray, whose messages go on with advice."""
    return f"{type(error).__name__}: {first_line(error).partition('. ')[0]}"


class Board:
    """An actor beside the driver: the tasks' news, and whether they should stop. Its loss costs only a few updates."""

    def __init__(self) -> None:
        self.news: list[News] = []
        self.stopping = False

    def post(self, news: list[News]) -> bool:
        self.news += news
        return self.stopping

    def read(self) -> list[News]:
        news, self.news = self.news, []
        return news

    def stop(self) -> None:
        self.stopping = True


def run_there(text: str, board: Any) -> News | None:
    """On a node: run a task, its news going to the board; returns the final news, None if stopped before it began.

    A thread queries the board, since a task whose main thread waits for Ray gives up its CPUs meanwhile.
    """
    import ray

    said: deque[News] = deque()
    stopping, ended = threading.Event(), threading.Event()

    def post() -> None:
        over = False
        while not over:
            over = ended.wait(LOOK_SECONDS)
            if ray.get(board.post.remote([said.popleft() for _ in range(len(said))])):
                stopping.set()

    last: list[News] = []

    def tell(news: News) -> None:
        (last if is_last(news) else said).append(news)

    poster = threading.Thread(target=post)
    poster.start()
    try:
        run_by_command([sys.executable], Task.from_json(text), tell, stopping.is_set)
    finally:
        ended.set()
        poster.join()
    return last[-1] if last else None


class Driver:
    """The side that submits tasks and collects their news."""

    def __init__(self, ray: Any, tell: Tell) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.ray, self.tell = ray, tell
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        forever = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
        self.board = ray.remote(Board).options(**forever).remote()
        self.remote = ray.remote(run_there)
        self.running: dict[Any, Task] = {}
        self.started: set[str] = set()
        self.lost: Counter[str] = Counter()
        self.patient_until: dict[str, float] = {}

    def run(self, tasks: list[Task]) -> None:
        """Run all tasks to their end."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        resources = {task.id: resources_of(task, nodes, self.tell) for task in tasks}

        def submit(task: Task) -> None:
            options = {"max_retries": 0, "name": task.id, **resources[task.id]}
            self.running[self.remote.options(**options).remote(task.to_json(), self.board)] = task

        for task in tasks:
            submit(task)
        try:
            while self.running:
                self.look(submit)
        except KeyboardInterrupt:
            self.stop()
            raise

    def look(self, submit: Callable[[Task], None]) -> None:
        """Wait a moment, pass on the news, and handle the tasks that have ended."""
        done, _ = self.ray.wait(list(self.running), timeout=LOOK_SECONDS)
        self.hear()
        for reference in done:
            task = self.running.pop(reference)
            self.started.discard(task.id)
            try:
                last = self.ray.get(reference)
            except self.ray.exceptions.RayTaskError:
                raise
            except self.ray.exceptions.RayError as error:
                self.lose(task, error, submit)
                continue
            locked = (last or {}).get("error", {}).get("kind") == "Busy"
            if locked and time.monotonic() < self.patient_until.get(task.id, 0):
                submit(task)  # the lock of a lost node may persist for a while
            elif last:
                self.tell(last)

    def hear(self) -> None:
        """Pass on the progress of the tasks."""
        for news in self.ray.get(self.board.read.remote()):
            self.started.add(news["id"])
            self.tell(news)

    def lose(self, task: Task, error: Exception, submit: Callable[[Task], None]) -> None:
        """Restart a task whose process Ray has lost from its last checkpoint, or give it up after the last try."""
        self.lost[task.id] += 1
        self.patient_until[task.id] = time.monotonic() + LEASE_SECONDS
        reason = briefly(error)
        if self.lost[task.id] < TRIES:
            self.tell(task.news("warning", text=f"lost ({reason}); restarted from its last checkpoint"))
            submit(task)
            return
        try:
            record_death(task, f"lost {TRIES} times, most recently: {reason}")
            self.tell(task.news("end", 1.0))
        except GenbenchError as problem:
            self.tell(task.problem(problem))

    def stop(self) -> None:
        """Ask the tasks that have begun to write a checkpoint, and wait for them."""
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and (left := [r for r, t in self.running.items() if t.id in self.started]):
            self.ray.get(self.board.stop.remote())
            for reference in self.ray.wait(left, timeout=LOOK_SECONDS)[0]:
                del self.running[reference]
            self.hear()


def resources_of(task: Task, nodes: list[dict[str, float]], tell: Tell) -> dict[str, float]:
    """What a task requests from Ray: CPUs for its threads, GPUs and, without GPUs, main memory.

    Raises EnvironmentProblem if no node has enough CPUs and GPUs.
    """
    able = [node for node in nodes if node.get("CPU", 0) >= task.threads and node.get("GPU", 0) >= task.gpus]
    if not able:
        raise EnvironmentProblem(
            f"--executor ray: {task.id} needs {task.threads} CPUs and {task.gpus} GPUs, and no node has them",
            "give each job fewer CPUs by --jobs or OMP_NUM_THREADS",
        )
    wanted: dict[str, float] = {"num_cpus": task.threads, "num_gpus": task.gpus}
    if task.memory_bytes is not None and not task.gpus:
        largest = int(max(node.get("memory", 0) for node in able))
        if task.memory_bytes > largest:
            tell(task.news("warning", text=alone(task.memory_bytes, largest, "the largest node")))
        wanted["memory"] = min(task.memory_bytes, largest)
    return wanted
