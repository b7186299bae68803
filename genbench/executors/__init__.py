"""Where jobs run: on this machine or elsewhere, each in a process of its own.

The names here are what a plugin with an executor may import.
"""

from genbench.executors.command import run_by_command
from genbench.records.task import Executor, News, Task, Tell, Work

__all__ = ["Executor", "News", "Task", "Tell", "Work", "run_by_command"]
