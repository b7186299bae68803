"""One task in a process of its own, watched to its end; `python -m genbench.executors.supervise` does it for others."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from genbench.errors import EnvironmentProblem, GenbenchError
from genbench.executors.task import News, Task, Tell

LOOK_SECONDS = 0.2
_starting = threading.Lock()
LAST_WORDS_SECONDS = 1.0
"""How long a process that is late may take to write where it is."""


def supervise(task: Task, tell: Tell, stopping: Callable[[], bool]) -> None:
    """Run a task and tell how far it is, until it has a record, or told what kept it from leaving one.

    A process that dies or is late leaves a failed record. When `stopping` says so, it is asked to checkpoint and stop.
    """
    try:
        check_here(task)
        with tempfile.NamedTemporaryFile(prefix="genbench-", suffix=".txt") as trace:
            child = Child(task, tell, Path(trace.name))
            try:
                problem = child.watch(stopping)
            finally:
                child.process.kill()
        tell(task.news("end", 1.0) if problem is None else {"id": task.id, **problem})
    except GenbenchError as error:
        tell(task.problem(error))


def check_here(task: Task) -> None:
    """Raise EnvironmentProblem where this machine does not see the output folder of the one that planned the task."""
    mark = task.context.get("mark")
    if mark and not Path(mark).exists():
        raise EnvironmentProblem(
            f"--out {Path(mark).parent} is not the same folder on {os.uname().nodename}",
            "give a folder that all machines share, by the same path",
        )


class Child:
    """The process of a task, and the last it said."""

    def __init__(self, task: Task, tell: Tell, trace: Path) -> None:
        from genbench.child import child_main

        start_forkserver()
        spawn = multiprocessing.get_context("forkserver")
        self.task, self.tell, self.trace = task, tell, trace
        self.receiver, sender = spawn.Pipe(duplex=False)
        self.process = spawn.Process(target=child_main, args=(task.job, task.context, sender, trace), name=task.id)
        self.process.start()
        sender.close()
        self.heard(task.news("start"))

    def heard(self, news: News) -> None:
        """Pass on what the child said."""
        self.last, self.last_time = news, time.monotonic()
        self.tell(news)

    def watch(self, stopping: Callable[[], bool]) -> News | None:
        """Wait for the end; the child's own word of what kept it from leaving a record."""
        began, limit = time.monotonic(), self.task.job["runtime"]["timeout"]
        asked, late, problem = False, "", None
        while self.process.is_alive():
            wait([self.process.sentinel, self.receiver], timeout=LOOK_SECONDS)
            problem = self.listen() or problem
            if stopping() and not asked:
                asked = True
                self.process.terminate()
            if limit and time.monotonic() - began > limit:
                silence = time.monotonic() - self.last_time
                late = f"stopped after --timeout {limit:g} seconds, {silence:.0f} s after its last word"
                self.end_with_last_words()
        self.process.join()
        problem = self.listen() or problem
        if problem is None and self.process.exitcode:
            record_death(self.task, late or f"its process {ending(self.process.exitcode)}", self.last, self.trace)
        return problem

    def listen(self) -> News | None:
        """Pass on all that the child has said since; its word of an error is returned."""
        with suppress(EOFError, OSError):
            while self.receiver.poll():
                said = self.receiver.recv()
                if "error" in said:
                    return dict(said)
                self.heard({"id": self.task.id, **said})
        return None

    def end_with_last_words(self) -> None:
        """End the process, which may first write where it is."""
        if self.process.pid is not None and hasattr(signal, "SIGUSR1"):
            os.kill(self.process.pid, signal.SIGUSR1)
            self.process.join(LAST_WORDS_SECONDS)
        self.process.kill()
        self.process.join()


def ending(code: int) -> str:
    """How a process ended, by its exit code."""
    if code >= 0:
        return f"exited with code {code}"
    hint = ", possibly out of memory" if -code == signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-code).name}{hint}"


def record_death(task: Task, message: str, last: News | None = None, trace: Path | None = None) -> None:
    """The record of a task whose process ended without writing one: where it was by its last news, and `trace`."""
    import torch

    from genbench import store
    from genbench.child import prepared
    from genbench.cost import Meter
    from genbench.plan import Job
    from genbench.plugins import load_plugins
    from genbench.records import Failure
    from genbench.run import Run, earlier_attempts

    job = Job.model_validate(task.job)
    hook, step = _place(last or task.news(""))
    failure = Failure(type="ProcessDied", message=message, hook=hook, step=step, plugin=job.plugin.name)
    plugins = load_plugins(job.runtime.plugins)
    run = Run(job, prepared(job, task.context, plugins), plugins, Meter(torch.device("cpu")))
    with store.locked(job.folder):
        if trace is not None and (text := trace.read_text(encoding="utf-8", errors="replace")):
            store.write_text(job.folder / "traceback.txt", text)
            failure.traceback = "traceback.txt"
        record = run.record("failed", failure, earlier_attempts(job.folder))
        store.write_text(job.folder / "record.json", record.to_json())


def _place(last: News) -> tuple[str, int | None]:
    """The hook that a process was in by its last news, and the step of its training."""
    words = last["text"].split()
    step = int(words[1]) if words[:1] == ["step"] else None
    return "build" if last["stage"] == "start" else last["stage"], step


def start_forkserver() -> None:
    """Start the process that children are forked from, with torch loaded.

    It is started without the working folder on its path, where a folder called `genbench` would hide the package.
    """
    from multiprocessing import forkserver

    with _starting:
        forkserver.set_forkserver_preload(["torch", "genbench.child"])
        before = os.environ.get("PYTHONSAFEPATH")
        os.environ["PYTHONSAFEPATH"] = "1"
        try:
            forkserver.ensure_running()
        finally:
            del os.environ["PYTHONSAFEPATH"]
            if before is not None:
                os.environ["PYTHONSAFEPATH"] = before


def main(source: str) -> None:
    """Supervise the task of a file of JSON or, for `-`, of the first line of stdin, whose end then ends the task.

    News are JSON lines on stdout, where nothing else is written. SIGTERM and SIGINT ask the task to checkpoint.
    """
    words = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a plugin prints is not news
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    def tell(news: News) -> None:
        with suppress(BrokenPipeError):
            print(json.dumps(news), file=words, flush=True)

    task = Task.from_json(sys.stdin.readline() if source == "-" else Path(source).read_text(encoding="utf-8"))
    if source == "-":
        threading.Thread(target=_end_with, args=(sys.stdin,), daemon=True).start()
    supervise(task, tell, stopping.is_set)


def _end_with(stream: Any) -> None:
    """End this process, and with it its child, when whoever started it is gone."""
    stream.read()
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
