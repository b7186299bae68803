"""What the terminal shows: progress on stderr (bars, or plain lines if it is not a terminal), results on stdout."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from genbench.cli.ahead import Ahead
from genbench.cli.streams import show
from genbench.support.errors import MOST_PROBLEMS, GenbenchError, together
from genbench.support.pace import Facts, clock, words_of
from genbench.support.text import plain, redacted, say

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from genbench.records.job import Job
    from genbench.records.record_files import Found

STAGE, WIDE = 13, 100
"""The width of `evaluate 100%`, and of a terminal that has room for the time a job has taken."""
LINE_SECONDS, TERMINAL_SECONDS = 15.0, 0.2
"""Between two lines, and between two changes of a line on a terminal."""
WORTH_SECONDS = 2.0
"""What must be left of a stage for its first estimate to be worth a line of its own."""


def show_error(error: GenbenchError, as_json: bool, to_stderr: bool = False) -> None:
    """Print what is wrong and where, then how to fix it; or one JSON object, on stdout if there is no result."""
    if as_json:
        text = redacted(json.dumps({"error": error.as_dict()}, allow_nan=False))
        say(text) if to_stderr else show(text)
        return
    say(f"genbench: error[{error.code}]: {error.message}")
    if error.hint:
        say(f"  hint: {error.hint}")


def show_left_out(found: Found, as_json: bool = False) -> int:
    """Name on stderr the runs that a result lacks, and return the exit code: 3 or 4 if one cannot be read, else 0."""
    if found.under_way and not as_json:
        counted = Counter(record.status for record in found.under_way)
        told = ", ".join(f"{count} {status}" for status, count in sorted(counted.items()))
        say(f"note: not all runs have ended ({told}): `genbench status` shows how far they are")
    if (silent := found.silent) and not as_json:
        names = [*map(str, silent[:MOST_PROBLEMS]), *["..."][: len(silent) // (MOST_PROBLEMS + 1)]]
        say(f"note: {len(silent)} without a record yet (interrupted or still running): {', '.join(names)}")
    faults: list[GenbenchError] = [*found.corrupt.values(), *found.spoilt]
    if not faults:
        return 0
    error = together(faults)
    show_error(error, as_json, to_stderr=True)
    return error.exit_code


def show_json(value: Any) -> None:
    """Print strict JSON on stdout."""
    show(json.dumps(value, indent=1, allow_nan=False))


def show_remarks(remarks: Iterable[str]) -> None:
    """Print what users should know of images and options before anything runs."""
    for remark in remarks:
        say(f"note: {remark}")


class JobProgress:
    """The jobs of a run: on a terminal a line for each that runs and one for all, else one per stage and LINE_SECONDS.

    A job that has ended leaves a line behind. `jobs` and `slots`, how many run at once, are what the time that all of
    them will take at least follows from; it is not told where they are not known.
    """

    def __init__(self, total: int, quiet: bool = False, jobs: Iterable[Job] = (), slots: int = 0) -> None:
        self.total, self.quiet = total, quiet
        self.bars: Progress | None = None
        self.tasks: dict[str, TaskID] = {}
        self.said: dict[str, tuple[str, float, bool]] = {}
        """By job the stage and time of its last line, and whether the stage's time left has been told."""
        self.ended = 0
        self.ahead = Ahead(jobs, slots)

    def __enter__(self) -> JobProgress:
        if sys.stderr.isatty() and not self.quiet:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
            from rich.table import Column

            console = Console(stderr=True)
            name, words = columns_of(console.width)

            def text(what: str, size: int) -> TextColumn:
                column = Column(width=size, no_wrap=True, overflow="ellipsis")
                return TextColumn(what, markup=False, table_column=column)

            elapsed = [TimeElapsedColumn()] if console.width >= WIDE else []
            columns = (text("{task.description}", name), BarColumn(bar_width=None), text("{task.fields[stage]}", STAGE),
                       text("{task.fields[words]}", words), *elapsed)  # fmt: skip
            self.bars = Progress(*columns, console=console, expand=True)
            self.tasks[""] = self.bars.add_task("", total=self.total, stage="", words="")
            self._all()
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars is not None:
            with suppress(OSError):  # a terminal that has gone away
                self.bars.stop()

    def update(self, job: Job, stage: str, share: float, text: str, facts: Facts | None = None) -> None:
        """Show how far a job is; `share` is how much of the stage is done. A warning and a note are no stages."""
        if stage == "warning":
            say(f"{job.id}: warning: {text}")
            return
        if stage == "note":
            if not self.quiet:
                say(f"{job.id}: {text}")
            return
        facts = facts or {}
        self.ahead.hear(job, stage, facts)
        if stage == "end":
            self.ended += 1
        if self.bars is not None:
            self._bar(job, stage, share, text, facts)
        elif not self.quiet:
            self._line(job, stage, share, text, facts)

    def _bar(self, job: Job, stage: str, share: float, text: str, facts: Facts) -> None:
        assert self.bars is not None
        name = plain(f"{job.row} {job.dataset}" + ("" if job.is_reference else f" seed {job.seed}"))
        known = job.id in self.tasks
        if not known:
            self.tasks[job.id] = self.bars.add_task(name, total=1.0, stage="start", words="")
        task = self.tasks[job.id]
        if stage == "end":
            taken = self.bars.tasks[self.bars.task_ids.index(task)].elapsed or 0.0
            self.bars.remove_task(self.tasks.pop(job.id))
            words = f"{text or 'done'} in {clock(taken)}" if known else "done before"
            self.bars.console.print(f"{name}: {words}", markup=False, highlight=False)
        else:
            words = words_of(plain(text), facts, columns_of(self.bars.console.width)[1])
            state = f"{stage:<8} {share:>4.0%}" if stage != "start" else stage
            # One that is complete would stop its clock, but another stage follows.
            self.bars.update(task, completed=0.999 * share, stage=state, words=words)
        self._all()

    def _all(self) -> None:
        """The line of all jobs."""
        assert self.bars is not None
        left = self.ahead.seconds
        words = f"at least {clock(left)} left" if left else ""
        done = f"all jobs {self.ended}/{self.total}"
        self.bars.update(self.tasks[""], completed=self.ended, description=done, words=words)

    def _line(self, job: Job, stage: str, share: float, text: str, facts: Facts) -> None:
        last_stage, last_time, timed = self.said.get(job.id, ("", 0.0, False))
        now, same = time.monotonic(), stage == last_stage
        news = not timed and facts.get("seconds_left", 0.0) >= WORTH_SECONDS
        if same and now - last_time < LINE_SECONDS and not news:
            return
        self.said[job.id] = stage, now, news or (same and timed)
        if stage == "end":
            left = f", at least {clock(self.ahead.seconds)} left" if self.ahead.seconds else ""
            say(f"{job.id}: {text or 'done'} ({self.ended}/{self.total}{left})")
        else:
            say(f"{job.id}: {stage} {share:.0%} {words_of(text, facts)}".rstrip())


def columns_of(width: int) -> tuple[int, int]:
    """How wide the names of jobs and what is told of them are on a terminal; the bar takes the rest."""
    return min(32, width // 4), max(0, width // 2 - 2)


class PreparationProgress:
    """A dataset being decoded for the first time: one line that counts on a terminal, else an occasional line."""

    def __init__(self, doing: str = "preparing", items: str = "images") -> None:
        self.doing, self.items = doing, items
        self.began: dict[str, float] = {}
        self.said = time.monotonic()

    @classmethod
    def of_captions(cls) -> PreparationProgress:
        """The same for captions that an encoder is asked for."""
        return cls("encoding", "captions")

    def __call__(self, text: str, done: int, total: int) -> None:
        now = time.monotonic()
        began = self.began.setdefault(text, now)
        terminal = sys.stderr.isatty()
        if done < total and now - self.said < (TERMINAL_SECONDS if terminal else LINE_SECONDS):
            return
        self.said = now
        rate = f", {done / (now - began):,.0f} {self.items}/s" if now > began else ""
        line = f"{self.doing} {text}: {done:,}/{total:,} {self.items}{rate}"
        if not terminal:
            say(line)
            return
        width = shutil.get_terminal_size().columns - 1
        end = "\n" if done == total else ""
        with suppress(OSError):
            print(f"\r{plain(line)[:width]:<{width}}", end=end, file=sys.stderr, flush=True)
