"""The tasks an executor receives and the news it reports: plain data, so that both can cross machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from genbench.records.job import Job
from genbench.records.record import DatasetStamp
from genbench.support.errors import GenbenchError, plain_error
from genbench.support.version import __version__

News = dict[str, Any]
"""{id, stage, share, text}: how far a task is; `end` is the last stage, and `warning` only carries `text`.

They may have `facts`, numbers about it (`genbench.support.pace.Facts`).
Or {id, error}: what kept a task from leaving a record.
"""
Tell = Callable[[News], object]


@dataclass(frozen=True)
class Context:
    """What the process of a job needs to know besides the job.

    `genbench` is the version that planned the job; `datasets` are datasets files besides the bundled one. `mark` is a
    file in the output folder by which another machine knows that it sees the same folder; "" on this machine.
    """

    datasets: tuple[str, ...]
    data_root: str
    genbench: str = __version__
    mark: str = ""

    @classmethod
    def of(cls, datasets: Iterable[Path], data_root: Path) -> Context:
        """The context with absolute paths, since another process may have another working folder."""
        return cls(tuple(str(file.absolute()) for file in datasets), str(data_root.absolute()))


class Need(NamedTuple):
    """Bytes of main memory or, on GPUs, of each device's memory; and seconds, a guess. None if unknown."""

    memory_bytes: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Task:
    """A job to run, and what it needs.

    `job` and `dataset` (what a record keeps of the dataset) are plain data. `threads` is the number of CPU cores for
    all its processes together, `gpus` the number of GPUs. `memory_bytes`, an estimate, is main memory or, with GPUs,
    the memory of each. `seconds` is a guess. None if unknown.
    """

    id: str
    job: dict[str, Any]
    dataset: dict[str, Any]
    context: Context
    threads: int
    gpus: int = 0
    memory_bytes: int | None = None
    seconds: float | None = None

    @property
    def folder(self) -> Path:
        """The job's run folder."""
        return Path(self.job["runtime"]["out"]) / self.id

    def to_json(self) -> str:
        """The task as one line of JSON."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Task:
        """The task that `to_json` wrote."""
        plain = json.loads(text)
        context = plain.pop("context")
        return cls(**plain, context=Context(**{**context, "datasets": tuple(context["datasets"])}))

    def on(self, group: tuple[str, ...]) -> Task:
        """The task on these devices, one per process."""
        runtime = {**self.job["runtime"], "device": group[0], "peers": list(group[1:])}
        return replace(self, job={**self.job, "runtime": runtime})

    def news(self, stage: str, share: float = 0.0, text: str = "") -> News:
        """News of this task."""
        return {"id": self.id, "stage": stage, "share": share, "text": text}

    def problem(self, error: GenbenchError) -> News:
        """The news that an error kept this task from leaving a record."""
        return {"id": self.id, "error": plain_error(error)}


@dataclass(frozen=True)
class Work:
    """All tasks, the longest first.

    `at_once` is --jobs. `groups` are this machine's devices as jobs may use them, one group per device; an executor
    that works elsewhere gets a single group, which gives only the kind of device.
    """

    tasks: list[Task]
    groups: list[tuple[str, ...]]
    at_once: int = 1


class Executor(Protocol):
    """Where jobs run. Making one raises EnvironmentProblem if it cannot work here."""

    def run(self, work: Work, tell: Tell) -> None:
        """Run every task to its record, and report progress by `tell`, which may be called from any thread.

        On KeyboardInterrupt, ask the running tasks to checkpoint, wait for them, and raise it again.
        """


def is_last(news: News) -> bool:
    """Whether these are the last news of the task."""
    return "error" in news or news["stage"] == "end"


def make_task(job: Job, dataset: DatasetStamp, context: Context, need: Need) -> Task:
    """The job as a task, with absolute paths, since another process may have another working folder."""
    runtime = job.runtime
    paths = {"out": runtime.out.absolute(), "cache": runtime.cache.absolute()}
    if runtime.weights is not None:
        paths["weights"] = runtime.weights.absolute()
    plugins = tuple(str(Path(file).absolute()) if Path(file).exists() else file for file in runtime.plugins)
    there = job.model_copy(update={"runtime": runtime.model_copy(update={**paths, "plugins": plugins})})
    gpus = runtime.processes if runtime.device.startswith("cuda") else 0
    plain, about = there.model_dump(mode="json"), dataset.model_dump(mode="json")
    return Task(job.id, plain, about, context, runtime.threads, gpus, *need)
