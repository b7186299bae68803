"""The local executor: one child process a job, from a forkserver that has torch loaded; a slot per device and job."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from genbench.errors import Busy, GenbenchError
from genbench.plan import Job

Update = Callable[[Job, str, float, str], None]
GRACE_SECONDS = 30.0


def run_jobs(
    jobs: Iterable[Job], groups: list[tuple[str, ...]], at_once: int, context: dict[str, Any], update: Update
) -> list[GenbenchError]:
    """Run jobs, `at_once` at a time on each group of devices; records are the result.

    A group has a device for each process of a job. Returns what kept jobs from starting.
    `update(job, stage, share, text)` is called from this process as jobs go on. A job whose process dies gets a failed
    record. KeyboardInterrupt asks the running jobs to checkpoint, waits for them and is raised again.
    """
    spawn = multiprocessing.get_context("forkserver")
    start_forkserver()
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    problems: list[GenbenchError] = []
    stopping, running = threading.Event(), set[BaseProcess]()

    def work(group: tuple[str, ...], ended: threading.Event) -> None:
        try:
            take_turns(group)
        finally:
            ended.set()

    def take_turns(group: tuple[str, ...]) -> None:
        while not stopping.is_set():
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            runtime = job.runtime.model_copy(update={"device": group[0], "peers": group[1:]})
            try:
                _run_child(spawn, job.model_copy(update={"runtime": runtime}), context, update, stopping, running)
            except GenbenchError as problem:
                problems.append(problem)

    slots = [group for group in groups for _ in range(at_once)]
    ends = [threading.Event() for _ in slots]  # a join that is interrupted takes its thread for ended (Python 3.11)
    for group, ended in zip(slots, ends):
        threading.Thread(target=work, args=(group, ended), daemon=True).start()
    try:
        for ended in ends:
            while not ended.wait(0.2):
                pass
    except KeyboardInterrupt:
        stopping.set()
        end = time.monotonic() + GRACE_SECONDS
        try:
            for ended in ends:
                ended.wait(max(0.0, end - time.monotonic()))
        finally:  # also at a second interrupt, which waits for nothing
            for process in list(running):
                process.kill()
        raise
    return problems


def start_forkserver() -> None:
    """Start the process that children are forked from, with torch loaded.

    It is started without the working folder on its path, where a folder called `genbench` would hide the package, and
    deaf to SIGTERM: a signal to the whole process group must not end it before the jobs have had their checkpoints.
    """
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload(["torch", "genbench.child"])
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    mine = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN) if mine else None
    try:
        forkserver.ensure_running()
    finally:
        if mine:
            signal.signal(signal.SIGTERM, handler)
        del os.environ["PYTHONSAFEPATH"]
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before


def _run_child(
    spawn: Any, job: Job, context: dict[str, Any], update: Update, stopping: threading.Event, running: set[BaseProcess]
) -> None:
    """One job in its own process, watched to its end."""
    from genbench.child import child_main

    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=child_main, args=(job.model_dump(mode="json"), context, sender), name=job.id)
    process.start()
    running.add(process)
    sender.close()
    update(job, "start", 0.0, "")
    deadline = time.monotonic() + job.runtime.timeout if job.runtime.timeout else None
    told = timed_out = False
    busy = ""
    while process.is_alive():
        busy = _drain(receiver, job, update) or busy
        wait([process.sentinel, receiver], timeout=0.2)
        if stopping.is_set() and not told and process.pid:
            told = True
            os.kill(process.pid, signal.SIGTERM)
        if deadline is not None and time.monotonic() > deadline:
            timed_out = True
            process.kill()
            process.join()
    process.join()
    running.discard(process)
    busy = _drain(receiver, job, update) or busy
    if busy:
        raise Busy(busy, "wait for it, or use another --out")
    if process.exitcode and not stopping.is_set():
        _record_death(job, context, process.exitcode, timed_out)
    update(job, "end", 1.0, "")


def _drain(receiver: Connection, job: Job, update: Update) -> str:
    """Pass on what the child has said; returns its word that the folder is busy, if it said so."""
    busy = ""
    try:
        while receiver.poll():
            stage, share, text = receiver.recv()
            if stage == "busy":
                busy = text
            else:
                update(job, stage, share, text)
    except (EOFError, OSError):
        return busy
    return busy


def _record_death(job: Job, context: dict[str, Any], code: int, timed_out: bool) -> None:
    """The record of a job whose process ended without writing one, from its last words."""
    import torch

    from genbench import progress, store
    from genbench.child import ending, prepared
    from genbench.cost import Meter
    from genbench.plugins import load_plugins
    from genbench.records import Failure
    from genbench.run import TRACEBACK, Run
    from genbench.run_folder import earlier_attempts, end

    plugins = load_plugins(job.runtime.plugins)
    run = Run(job, prepared(job, context, plugins), plugins, Meter(torch.device("cpu")))
    with store.locked(job.folder):
        last = progress.last_words(job.folder)
        message = f"its process {ending(code)}"
        if timed_out:
            message = f"stopped after --timeout {job.runtime.timeout or 0:g} seconds"
        elif last.hung:
            message = f"no progress for {job.runtime.hang_timeout or 0:g} seconds (--hang-timeout)"
        if last.traceback:
            store.write_text(job.folder / TRACEBACK, last.traceback)
        failure = Failure(
            type="Hung" if last.hung and not timed_out else "ProcessDied", message=message, hook=last.hook,
            step=last.step, plugin=job.plugin.name, traceback=TRACEBACK if last.traceback else "",
        )  # fmt: skip
        store.sweep(job.folder)
        end(job, run.record("failed", failure, earlier_attempts(job.folder)))


def threads_for(jobs: int, cores: int | None = None) -> int:
    """CPU threads of one job, all its processes together: the cores divided by the jobs at a time, at least 1."""
    return max(1, (cores or available_cores()) // jobs)


def available_cores() -> int:
    """The cores this process may use: those it is bound to, or fewer where OMP_NUM_THREADS says so."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wished = os.environ.get("OMP_NUM_THREADS", "")
    return min(bound, int(wished)) if wished.isdigit() and int(wished) else bound


def as_context(datasets: Iterable[Path], data_root: Path) -> dict[str, Any]:
    """What a child needs beside its job, as plain data."""
    return {"datasets": [str(file) for file in datasets], "data_root": str(data_root)}
