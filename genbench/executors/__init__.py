"""Where jobs run: on this machine or elsewhere, each in its own process.

A plugin that provides an executor may import the names listed here.
"""

from genbench.executors.command import run_by_command
from genbench.records.task import Executor, News, Task, Tell, Work

__all__ = ["Executor", "News", "Task", "Tell", "Work", "run_by_command"]
