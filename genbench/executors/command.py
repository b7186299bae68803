"""Run a task by a command, here or on another machine: it reads the task on stdin and writes news on stdout."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from subprocess import PIPE
from typing import IO

from genbench.records.task import Task, Tell, is_last
from genbench.support.errors import EnvironmentProblem

ARGUMENTS = ("-P", "-m", "genbench.executors.supervise", "-")
LOOK_SECONDS = 0.2


def run_by_command(python: Iterable[str], task: Task, tell: Tell, stopping: Callable[[], bool] = lambda: False) -> None:
    """Run a task by a Python that has genbench; `python` is the command that starts it, such as `["srun", "python"]`.

    The command must pass on stdin, stdout and SIGTERM. SIGTERM asks the task to checkpoint and stop; it is sent when
    `stopping()` is true, or when an exception such as KeyboardInterrupt ends the wait. The end of stdin ends the task,
    so that it does not outlive its starter. A command that ends without final news is reported as an error.
    """
    if stopping():
        return
    last = threading.Event()

    def read(lines: IO[str]) -> None:
        for line in lines:
            news = json.loads(line)
            if is_last(news):
                last.set()
            tell(news)

    command = [*python, *ARGUMENTS]
    with suppress(BrokenPipeError), subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        reader = threading.Thread(target=read, args=(process.stdout,), daemon=True)
        reader.start()
        try:
            print(task.to_json(), file=process.stdin, flush=True)
            asked = False
            while reader.is_alive():
                reader.join(LOOK_SECONDS)
                if stopping() and not asked:
                    asked = True
                    process.terminate()
        except BaseException:
            process.terminate()
            reader.join()
            raise
    if not last.is_set():
        what = f"{' '.join(command)} exited with code {process.returncode} without reporting a result"
        tell(task.problem(EnvironmentProblem(f"{task.id}: {what}", "see its output above")))
