"""How far the runs of a folder are: a reading that takes no lock, writes nothing, and takes things as it finds them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from genbench.metrics import metric_named, metrics_in
from genbench.records.budget import Budget
from genbench.records.job import read_job
from genbench.records.queue import Queue, queues, told_of
from genbench.records.record import Measurement, Record
from genbench.records.record_files import no_runs_at, read_record, runs_at
from genbench.records.slots import slot_of
from genbench.records.unfinished import state_of
from genbench.support.errors import CorruptData, EnvironmentProblem, GenbenchError
from genbench.support.lock import Holder, holder
from genbench.support.pace import Facts, words_of
from genbench.support.paths import real
from genbench.support.progress import LastWords, last_words, latest_news
from genbench.support.text import number, printable, shortened
from genbench.tables.build import ending
from genbench.tables.verdicts import verdict
from genbench.tables.wording import width

STATES = ("done", "failed", "diverged", "cancelled", "unreadable", "interrupted", "running", "waiting", "not begun")
"""In the order in which they are shown."""
WIDE = 110
"""Columns from which a line has room for the whole name of a run."""
Planned = dict[str, tuple[dict[str, Any], Queue]]
"""What the queues say of a job, by its id, and the queue that it is in; one that waits before one that is gone."""


@dataclass(frozen=True)
class Status:
    """One run: what it is, its state, and what there is to tell of it.

    `stage`, `share` and `facts` are the latest news of one that runs or ran, `news_seconds` their age; `holder` is the
    process that works on it, or means to. `told` is a headline, or the reason why there is none.
    """

    run: str
    state: str
    id: str = ""
    model: str = ""
    label: str = ""
    dataset: str = ""
    seed: int | None = None
    budget: dict[str, float] = field(default_factory=dict)
    stage: str = ""
    share: float | None = None
    text: str = ""
    facts: Facts = field(default_factory=dict)
    news_seconds: float | None = None
    holder: Holder | None = None
    told: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with None for what is not known."""
        plain = asdict(self)
        if self.holder is not None:
            plain["holder"] = {key: value or None for key, value in asdict(self.holder).items()}
        return {key: None if value in ("", {}) else value for key, value in plain.items()}

    def words(self, room: int | None) -> str:
        """What is told of it, in as many columns as there are."""
        if self.state in ("running", "interrupted") and self.stage:
            share = f"{self.stage} {self.share:.0%} " if self.share is not None else f"{self.stage} "
            facts = self.facts if self.state == "running" else {"losses": self.facts.get("losses", {})}
            more = [f"process {self.holder.pid} on {self.holder.host}"] if self.holder and room is None else []
            left = None if room is None else room - len(share)
            return share + ", ".join([*filter(None, [words_of(self.text, facts, left)]), *more])
        return self.told if room is None else shortened(self.told, max(1, room))


def statuses(paths: Iterable[Path]) -> tuple[list[Status], list[GenbenchError]]:
    """Every run at the given paths or one level below, those that wait for their turn too, and what cannot be read.

    Raises BadInput if a path has none.
    """
    found: dict[Path, Status] = {}
    faults: list[GenbenchError] = []
    for path in paths:
        files, unfinished, closed = runs_at(path)
        folders = [*(file.parent for file in files), *unfinished]
        faults += closed.values()
        alone = path.name == "record.json" or path in folders
        out = (path.parent if path.name == "record.json" else path).parent if alone else path
        waiting = _queues(out, [] if alone else faults)
        if not (folders or closed or waiting):
            raise no_runs_at(path)
        planned = {job["id"]: (job, queue) for queue in reversed(waiting) for job in reversed(queue.jobs)}
        for folder in folders:
            found.setdefault(real(folder), _status(folder, planned, faults))
        for name, (job, queue) in reversed(planned.items()) if not alone else ():
            found.setdefault(real(out / name), _ahead(out / name, job, queue))
    return sorted(found.values(), key=lambda status: STATES.index(status.state)), faults


def _queues(out: Path, faults: list[GenbenchError]) -> list[Queue]:
    try:
        return queues(out)
    except (CorruptData, EnvironmentProblem) as fault:
        faults.append(fault)
        return []


def _ahead(folder: Path, job: dict[str, Any], queue: Queue, before: str = "") -> Status:
    """A run whose turn has not come, or never came; `before` is what became of it earlier."""
    budget = f"{Budget.model_validate(job['budget']).words()} of training" if job["budget"] else ""
    state = "not begun" if queue.holder is None else "waiting"
    told = ", ".join(filter(None, [budget, before]))
    return Status(str(folder), state, told=told, holder=queue.holder, **job)


def _status(folder: Path, planned: Planned, faults: list[GenbenchError]) -> Status:
    """One run folder as it is now; a file that goes while it is looked at is looked for again."""
    for _ in range(3):
        try:
            working = _holder(folder, faults)
            if state_of(folder) == "ended":
                return _ended(folder, read_record(folder / "record.json", whole=False), working, planned)
            return _under_way(folder, working, planned)
        except (CorruptData, EnvironmentProblem) as fault:
            error: GenbenchError = fault
    faults.append(error)
    return Status(str(folder), "unreadable", id=folder.name, told=error.message)


def _holder(folder: Path, faults: list[GenbenchError]) -> Holder | None:
    """Who works in a folder; None too where nobody can know, which is a fault."""
    try:
        return holder(folder)
    except EnvironmentProblem as fault:
        faults.append(fault)
        return None


def _ended(folder: Path, record: Record, working: Holder | None, planned: Planned) -> Status:
    """A run with a record; one that is to be tried again waits."""
    job = record.job
    again, queue = planned.get(job.id, ({}, None))
    if queue is not None and queue.holder is not None and record.status in ("failed", "cancelled"):
        with suppress(FileNotFoundError):
            if (folder / "record.json").stat().st_mtime < queue.began:
                return _ahead(folder, again, queue, f"{record.status} before")
    state = "done" if record.status == "complete" else record.status
    told = headline(record) if state == "done" else ending(record).removeprefix(f"{record.status}: ")
    return Status(
        str(folder), state, id=job.id, model=job.model, label=job.label, dataset=record.dataset.name, seed=job.seed,
        budget=job.budget.as_dict(), told=told, holder=working,
    )  # fmt: skip


def _under_way(folder: Path, working: Holder | None, planned: Planned) -> Status:
    """A run without a record: somebody works on it, will, or has left it."""
    job = read_job(folder)
    again, queue = planned.get(job.id, ({}, None))
    if working is None and queue is not None and queue.holder is not None:
        return _ahead(folder, again, queue, "begun before")
    news, last = latest_news(folder), LastWords()
    with suppress(OSError, ValueError):
        last = last_words(folder)
    stage, text = news.get("stage", last.hook), news.get("text", "")
    step = f"step {last.step:,}" if last.step is not None and stage == "train" else ""
    return Status(
        str(folder), "running" if working else "interrupted", **told_of(job), stage=stage, share=news.get("share"),
        text=step or text, facts=news.get("facts", {}), holder=working,
        news_seconds=max(0.0, time.time() - news["time"]) if "time" in news else None,
    )  # fmt: skip


def headline(record: Record) -> str:
    """`FID test 39.1 ± 1.1, 8.28 bits/dim`: the first metric that may rank, and the likelihood, as far as there are."""
    measured = [m for m in record.measurements if m.value is not None]
    leading = [m for metric in metrics_in("headline") for m in measured if m.metric == metric]
    able = [m for m in leading if not verdict([record], slot_of(m, record.protocols))]
    bits = [f"{number(m.value, 'bits')} bits/dim" for m in measured if m.metric == "bits_per_dim_test" and m.value]
    return ", ".join([*map(_value, (able or leading)[:1]), *bits[:1]]) or "nothing measured"


def _value(measured: Measurement) -> str:
    metric = metric_named(measured.metric)
    error = f" ± {number(measured.stderr, metric.style)}" if measured.stderr is not None else ""
    return f"{metric.heading} {number(measured.value or 0.0, metric.style)}{error}"


def lines(found: list[Status], columns: int | None) -> Iterator[str]:
    """A line for each run, aligned, and at last how many there are of each state; `columns` is what a line may take."""
    names = _names(found, columns is not None and columns < WIDE)
    longest = max(map(width, names), default=0)
    longest = longest if columns is None else min(longest, columns * 2 // 5)
    first = max((len(status.state) for status in found), default=0)
    for status, name in zip(found, names):
        name = shortened(name, longest)
        room = None if columns is None else columns - first - longest - 2 * 2
        yield f"{status.state:<{first}}  {name}{' ' * (longest - width(name))}  {status.words(room)}".rstrip()
    yield ""
    yield counts_text(found)


def _names(found: list[Status], short: bool) -> list[str]:
    """The names of the run folders; `short`: without their keys, if these are not what tells them apart."""
    whole = [printable(status.id or Path(status.run).name) for status in found]
    cut = [name.rpartition("-")[0] or name for name in whole]
    return cut if short and len(set(cut)) == len(set(whole)) else whole


def counts(found: Iterable[Status]) -> dict[str, int]:
    """How many runs there are of each state."""
    counted = Counter(status.state for status in found)
    return {state: counted[state] for state in STATES if counted[state]}


def counts_text(found: list[Status]) -> str:
    """`3 done, 2 running (node7: 4711, 4712), 1 waiting`."""
    where: dict[str, list[int]] = {}
    for status in found:
        if status.state == "running" and status.holder is not None:
            where.setdefault(status.holder.host or "?", []).append(status.holder.pid)
    holders = "; ".join(f"{host}: {', '.join(map(str, sorted(pids)))}" for host, pids in sorted(where.items()))
    told = {"running": f" ({holders})" if holders else ""}
    return printable(", ".join(f"{count} {state}{told.get(state, '')}" for state, count in counts(found).items()))


def as_plain(found: Iterable[Status]) -> dict[str, Any]:
    """All runs and how many there are of each state, as plain data without a number that is not finite."""
    found = list(found)
    return {"runs": [status.as_dict() for status in found], "counts": counts(found)}
