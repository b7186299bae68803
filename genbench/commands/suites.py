"""The suites that ship, as rows for people and programs: what each runs, and how long it takes as far as is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genbench.data.entries import known_datasets
from genbench.data.preparation import stand_in
from genbench.executors.local import threads_for
from genbench.extension.registry import Plugins
from genbench.planning.config import Experiment, make_experiment
from genbench.planning.earlier import earlier_runs, read_earlier
from genbench.planning.plan import make_jobs
from genbench.planning.sharing import trainers
from genbench.planning.suites import find_shipped, shipped_suites
from genbench.records.budget import Budget
from genbench.records.job import Runtime
from genbench.running.defaults import load_plugins
from genbench.support.errors import GenbenchError
from genbench.support.text import duration, list_words, plain

Row = dict[str, Any]
INDENT = 15


def suite_rows(out: Path) -> list[Row]:
    """One row per suite; `out` is the folder whose earlier runs tell seconds that are otherwise not known."""
    plugins = load_plugins(())
    rows = []
    for name, file in shipped_suites().items():
        suite = make_experiment(file, {}, (), ())
        row: Row = {
            "name": name, "title": suite.title, "file": str(file), "datasets": list(suite.datasets),
            "labels": [choice.label for choice in suite.models],
            "rows": len(suite.models) * len(suite.datasets) * len(suite.seeds), "budget": suite.budget.as_dict(),
            "samples": suite.samples, "problem": "",
        }  # fmt: skip
        try:
            row |= spending(suite, plugins, out)
        except GenbenchError as problem:
            row |= {"trainings": None, "training_seconds": None, "later_seconds": None, "later_rows": 0}
            row["problem"] = problem.message
        rows.append(row)
    return rows


def suite_file_text(name: str) -> str:
    """The file of a suite that ships, as it is. Raises BadInput for an unknown name."""
    return find_shipped(name).read_text(encoding="utf-8")


def spending(suite: Experiment, plugins: Plugins, out: Path) -> Row:
    """How many trainings a suite has, and their seconds; those of sampling and scoring, and of how many rows.

    A budget in seconds is what a training takes; all else is known from earlier runs alone, and None if there are none.
    Nothing is prepared: the images need not be there.
    """
    import torch

    from genbench.devices import resolve_devices

    entries = known_datasets((), plugins)
    images = {name: stand_in(entries[name]) for name in suite.datasets}
    runtime = Runtime(device=str(resolve_devices("auto")[0]), threads=threads_for(1), out=out)
    torch.set_num_threads(runtime.threads)
    jobs = [job for job in make_jobs(suite, plugins, images.values(), runtime) if job.is_trained]
    records, shared = read_earlier(out, {job.model for job in jobs}), trainers(jobs)
    training: list[float | None] = []
    later: list[float] = []
    for job in jobs:
        past = earlier_runs(job, images[job.dataset], records)
        if past is not None:
            past.add_seconds(job, int(job.budget.amount) if job.budget.unit == "images" else None)
            if past.sample_seconds is not None and past.evaluate_seconds is not None:
                later.append(past.sample_seconds + past.evaluate_seconds)
        if job.id not in shared:
            training.append(job.budget.amount if job.budget.is_timed else past.train_seconds if past else None)
    known = [seconds for seconds in training if seconds is not None]
    return {
        "trainings": len(training), "training_seconds": sum(known) if len(known) == len(training) else None,
        "later_seconds": sum(later) if later else None, "later_rows": len(later),
    }  # fmt: skip


def suite_text(rows: list[Row], out: Path) -> str:
    """A suite's name and title, what it runs, and how long that takes, a line each."""
    lines = []
    for row in rows:
        what = f"{row['rows']} rows on {list_words(row['datasets'])}, {Budget(**row['budget']).words()} each"
        time = f"cannot run here: {row['problem']}" if row["problem"] else seconds_words(row, out)
        lines += [f"{row['name']:{INDENT}}{row['title']}", f"{'':{INDENT}}{what}", f"{'':{INDENT}}{time}"]
    return "\n".join(map(plain, lines))


def seconds_words(row: Row, out: Path) -> str:
    """`6 min of training; sampling and scoring ~2 min, as in earlier runs in runs`."""
    train, later, count = row["training_seconds"], row["later_seconds"], row["later_rows"]
    told = "training: not known before a run" if train is None else f"{duration(train)} of training"
    if later is None:
        return f"{told}; sampling and scoring: not known, no earlier run in {out}"
    some = "" if count == row["rows"] else f" for {count} of the rows"
    return f"{told}; sampling and scoring ~{duration(later)}{some}, as in earlier runs in {out}"
