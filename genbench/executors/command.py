"""A task by a command, here or on another machine: it is told the task on its stdin, and its stdout has the news."""

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
    """Run a task by a Python with genbench, `python` being the command that starts it: `["srun", "python"]`.

    The command must pass on its stdin, stdout and SIGTERM, by which the task is asked to checkpoint when `stopping`
    says so, or when an exception such as KeyboardInterrupt ends the wait. The end of stdin ends the task: one whose
    starter is gone does not go on. A command that ends without a last word is told as an error.
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
        what = f"{' '.join(command)} ended with code {process.returncode} and no word of the job"
        tell(task.problem(EnvironmentProblem(f"{task.id}: {what}", "what it said itself is above")))
