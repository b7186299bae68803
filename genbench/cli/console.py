"""What the terminal shows: progress on stderr (bars, or plain lines if it is not a terminal), results on stdout."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from genbench.cli.streams import show
from genbench.support.errors import MOST_PROBLEMS, GenbenchError, together
from genbench.support.text import plain, redacted, say

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from genbench.records.job import Job
    from genbench.records.record_files import Found

SHARES = {"start": (0.0, 0.0), "train": (0.0, 0.6), "sample": (0.6, 0.8), "evaluate": (0.8, 1.0), "end": (1.0, 1.0)}
LINE_SECONDS, TERMINAL_SECONDS = 15.0, 0.2
"""Between two lines, and between two changes of a line on a terminal."""


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
    if found.unfinished and not as_json:
        names = [*map(str, found.unfinished[:MOST_PROBLEMS]), *["..."][: len(found.unfinished) // (MOST_PROBLEMS + 1)]]
        say(f"note: {len(found.unfinished)} without a record yet (interrupted or still running): {', '.join(names)}")
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
    """The jobs of a run: on a terminal one bar per job and one for all, else a line per stage and LINE_SECONDS."""

    def __init__(self, total: int, quiet: bool = False) -> None:
        self.total, self.quiet = total, quiet
        self.bars: Progress | None = None
        self.tasks: dict[str, TaskID] = {}
        self.said: dict[str, tuple[str, float]] = {}
        self.ended = 0

    def __enter__(self) -> JobProgress:
        if sys.stderr.isatty() and not self.quiet:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(),
            )
            self.bars = Progress(*columns, console=Console(stderr=True))
            self.tasks[""] = self.bars.add_task(f"{'all jobs':32} {f'0/{self.total}':9}", total=self.total)
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars is not None:
            with suppress(OSError):  # a terminal that has gone away
                self.bars.stop()

    def update(self, job: Job, stage: str, share: float, text: str) -> None:
        """Show how far a job is; `share` is how much of the stage is done. A warning and a note are no stages."""
        if stage == "warning":
            say(f"{job.id}: warning: {text}")
            return
        if stage == "note":
            if not self.quiet:
                say(f"{job.id}: {text}")
            return
        begin, end = SHARES[stage]
        done = begin + (end - begin) * share
        if stage == "end":
            self.ended += 1
        if self.bars is not None:
            self._bar(job, stage, done)
        elif not self.quiet:
            self._line(job, stage, share, text)

    def _bar(self, job: Job, stage: str, done: float) -> None:
        assert self.bars is not None
        if job.id not in self.tasks:
            self.tasks[job.id] = self.bars.add_task("", total=1.0)
        name = f"{job.label} {job.dataset} seed {job.seed}" if not job.is_reference else f"{job.label} {job.dataset}"
        self.bars.update(
            self.tasks[""], completed=self.ended, description=f"{'all jobs':32} {f'{self.ended}/{self.total}':9}"
        )
        self.bars.update(
            self.tasks[job.id], completed=done, description=f"{plain(name):32} {'done' if stage == 'end' else stage:9}"
        )

    def _line(self, job: Job, stage: str, share: float, text: str) -> None:
        last_stage, last_time = self.said.get(job.id, ("", 0.0))
        now = time.monotonic()
        if stage == last_stage and now - last_time < LINE_SECONDS:
            return
        self.said[job.id] = (stage, now)
        state = f"done ({self.ended}/{self.total})" if stage == "end" else f"{stage} {share:.0%} {text}".rstrip()
        say(f"{job.id}: {state}")


class PreparationProgress:
    """A dataset being decoded for the first time: one line that counts on a terminal, else an occasional line."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.said = time.monotonic()

    def __call__(self, text: str, done: int, total: int) -> None:
        now = time.monotonic()
        began = self.began.setdefault(text, now)
        terminal = sys.stderr.isatty()
        if done < total and now - self.said < (TERMINAL_SECONDS if terminal else LINE_SECONDS):
            return
        self.said = now
        rate = f", {done / (now - began):,.0f} images/s" if now > began else ""
        line = f"preparing {text}: {done:,}/{total:,} images{rate}"
        if not terminal:
            say(line)
            return
        width = shutil.get_terminal_size().columns - 1
        end = "\n" if done == total else ""
        with suppress(OSError):
            print(f"\r{plain(line)[:width]:<{width}}", end=end, file=sys.stderr, flush=True)
