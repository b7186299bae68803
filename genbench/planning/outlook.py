"""The output of `genbench plan`: the jobs, their estimated cost, and how it was estimated."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from genbench.evaluate import local_classifier
from genbench.evaluate.extractors import LOCAL
from genbench.executors.local import alone, pools_here
from genbench.executors.schedule import Forecast, Pool, forecast_in_turn, longest_first
from genbench.planning.earlier import read_earlier
from genbench.planning.estimate import Estimate, PhaseEstimate, estimate
from genbench.planning.needs import alike, need
from genbench.planning.outlay import Outlay, Trials
from genbench.planning.prospect import Prospect
from genbench.planning.session import Session
from genbench.planning.sharing import trainers
from genbench.planning.summary import summary_of
from genbench.records.job import Job
from genbench.records.shared_training import trained_by
from genbench.records.task import Task
from genbench.records.v100 import nominal_words
from genbench.running.run import is_done
from genbench.support.text import DASH, duration, number, printable
from genbench.training.keeper import plan_note

WIDTH = 80
HEADINGS = ("model", "para-\nmeters", "FLOPs/\nupdate", "training\nFLOPs", "peak\nmemory", "FLOPs/\nsample", "NFE",
            "V100-\ndays")  # fmt: skip
METHOD = (
    "These are estimates (~), and nothing is trained for them. FLOPs are counted on tensors that have a shape but no "
    "values: 2 per multiply-add of matrix products and convolutions, forward and backward, per update of a phase on "
    "its batch; optimizer, averaging, normalisation and elementwise operations count as 0.",
    "Training FLOPs: updates until the budget is spent; for a budget in seconds, from the rates of earlier runs.",
    "Peak memory of training: weights and their average, gradients, optimizer state, what autograd saves for the "
    "largest phase's batch, the training images on a GPU and, on a CPU, this process. Not included: temporaries of "
    "operations, library workspaces, fragmentation.",
    "Seconds: medians over earlier runs with the same training, device and precision in the output folder or, without "
    "any, those of a few images that the untrained model draws and scores here, for all in proportion: by number or, "
    "if that would take long, by FLOPs. Features of small networks, metrics and the reference rows are not in them.",
)
TRIED = "computed on 2 and 4 noise images and extrapolated to the batch, since the loss needs values"
SUPPOSED = "counted as if nothing were true that its loss asks of values, since the model is too large to try on images"


def prospects(session: Session, utilisation: float) -> list[Prospect]:
    """All jobs of a session, with an estimate for those that would train; all seeds share one."""
    found, known, outlays = [], dict[str, Estimate](), dict[str, Outlay]()
    trials = Trials(session.plugins)
    done = {job.id for job in session.jobs if is_done(job)}
    waiting = trainers(job for job in session.jobs if job.id not in done)
    models = {job.model for job in session.jobs if not job.is_reference}
    records = read_earlier(session.jobs[0].runtime.out, models)
    for job in session.jobs:
        prospect = Prospect(job, job.id in done, plan_note(job), session.missing.get(job.dataset, []))
        if not job.is_reference and not prospect.done:
            key = alike(job)
            if key not in known:
                data = session.datasets[job.dataset]
                known[key] = estimate(job, data, session.plugins, records, utilisation)
            prospect.estimate = known[key]
            add_sharing(prospect, waiting.get(job.id))
            if not prospect.problems:
                if key not in outlays:
                    outlays[key] = trials.outlay(job, known[key], session.datasets[job.dataset])
                prospect.outlay = outlays[key] if prospect.estimate.trains else outlays[key].without_training()
        found.append(prospect)
    add_classifiers(found, session)
    return found


def add_classifiers(found: Iterable[Prospect], session: Session) -> None:
    """Note, at the first job of each dataset that needs a local classifier, whether it has to be trained."""
    first: dict[str, Prospect] = {}
    for prospect in found:
        if prospect.state == "to do" and LOCAL in prospect.job.evaluation.extractors:
            first.setdefault(prospect.job.dataset, prospect)
    for name, prospect in first.items():
        note = local_classifier.plan_note(session.datasets[name], prospect.job.runtime.cache)
        prospect.note = "; ".join(filter(None, [prospect.note, note]))


def add_sharing(prospect: Prospect, trainer: Job | None) -> None:
    """Note whose training the job uses, if it does not train itself, and drop the training from its cost."""
    assert prospect.estimate is not None
    prospect.waits = trainer is not None
    prospect.trained_by = trainer.id if trainer else trained_by(prospect.job)
    if not prospect.trained_by:
        return
    done = "its training is done" + (f", by {prospect.trained_by}" if prospect.trained_by != prospect.job.id else "")
    note = f"shares the training of {trainer.row}" if trainer else done
    prospect.note = "; ".join(filter(None, [note, prospect.note]))
    prospect.estimate = prospect.estimate.without_training()


@dataclass
class Schedule:
    """How the remaining jobs would run side by side here, from the times of earlier runs."""

    tasks: list[Task]
    pools: list[Pool]
    forecast: Forecast
    unknown: list[str]
    """The rows of jobs whose whole time is not known, as no earlier run has it."""


def schedule(found: Iterable[Prospect], session: Session) -> Schedule | None:
    """The schedule of the jobs that can run; None if another machine runs them."""
    waiting = {p.job.id: p for p in found if p.state == "to do"}
    if not waiting or session.jobs[0].runtime.executor != "local":
        return None
    tasks = longest_first(session.task(p.job, need(p.job, p.estimate)) for p in waiting.values())
    outlays = {name: p.outlay for name, p in waiting.items() if p.outlay is not None}
    spent = {name: about.at_least or None for name, about in outlays.items()}
    known = [replace(task, seconds=spent.get(task.id)) for task in tasks]
    pools = pools_here(session.groups, session.at_once)
    unknown = dict.fromkeys(
        p.job.row for p in (waiting[task.id] for task in tasks) if not p.outlay or p.outlay.whole is None
    )
    turns = [[task for task in known if waiting[task.id].turn == turn] for turn in range(3)]
    return Schedule(tasks, pools, forecast_in_turn(turns, pools), list(unknown))


def schedule_text(found: Iterable[Prospect], session: Session) -> list[str]:
    """How many jobs run at a time, how long all would take, and the memory."""
    runtime, plan = session.jobs[0].runtime, schedule(found, session)
    if plan is None:
        gpus = f", {runtime.processes} GPUs" if runtime.device != "cpu" else ""
        asks = f"each job requests {runtime.threads} CPUs{gpus} and its peak memory; the executor decides how many run"
        return [] if runtime.executor == "local" else _wrapped(f"--executor {runtime.executor}: {asks}.")
    count, total = sum(pool.slots for pool in plan.pools), plan.forecast.seconds
    without = f"; no earlier run of {', '.join(plan.unknown)}" if plan.unknown else ""
    time = f"{'at least ' * bool(plan.unknown)}~{number(total, 'seconds')} s in all" if total else "time unknown"
    time += f" ({duration(total)})" * (total >= 100)
    lines = [f"{count} job{'s' * (count > 1)} at a time, longest first: {time}{without}."]
    for pool in plan.pools:
        most, there = plan.forecast.peak_bytes[pool.group], number(pool.capacity, "bytes")
        lines.append(f"{pool.group[0]}: at most ~{number(most, 'bytes')} together, of {there} available.")
    pool = max(plan.pools, key=lambda pool: pool.capacity)
    for task in plan.tasks:
        if all(each.exceeded_by(task) for each in plan.pools):
            lines.append(f"{task.id}: {alone(pool.need(task), pool.capacity, pool.group[0])}.")
    return [line for text in lines for line in _wrapped(text)]


def as_rows(found: list[Prospect], session: Session) -> list[dict[str, Any]]:
    """One row per job, as plain data: the job, its state, and the estimate with its reasons and method."""
    rows, plan = [], schedule(found, session)
    places = {task.id: task for task in plan.tasks} if plan else {}
    for prospect in found:
        job, here = prospect.job, bool(prospect.job.dataset_digest)
        problems = [{"code": p.code, "message": p.message, "hint": p.hint} for p in prospect.problems]
        row: dict[str, Any] = {
            "done": prospect.done,
            "id": job.id if here else None,
            "note": prospect.note,
            "problems": problems,
            "trained_by": prospect.trained_by or None,
        }
        row |= job.model_dump(mode="json", exclude={"runtime"})
        if prospect.estimate is not None:
            about, phases = asdict(prospect.estimate), prospect.estimate.phases
            for name, phase in phases.items():
                about["phases"][name]["flops_per_image"] = phase.flops_per_image
            about["flops_per_update"] = {name: phase.flops_per_update for name, phase in phases.items()}
            row["estimate"] = about | {"method": list(METHOD)}
        if prospect.outlay is not None:
            row["outlay"] = asdict(prospect.outlay) | {"method": prospect.outlay.method}
        if plan and job.id in places:
            begin, memory = plan.forecast.begins[job.id], places[job.id].memory_bytes
            row["schedule"] = {"begin_seconds": begin, "memory_bytes": memory}
        rows.append(row)
    return rows


def as_text(found: list[Prospect], utilisation: float, session: Session) -> str:
    """The jobs, how they would run, a table per dataset of the remaining jobs' cost, and the footnotes."""
    lines = [line for text in summary_of(found, session) for line in _wrapped(text)]
    lines += [*schedule_text(found, session), ""]
    for prospect in found:
        job = prospect.job
        name = job.id if job.dataset_digest else job.id.rpartition("-")[0]
        told = [job.precision, "" if job.is_reference else job.budget.words(), prospect.note]
        lines += _wrapped(f"{prospect.state:6} {name}  {'; '.join(filter(None, told))}", " " * 9)
    reasons = {p.job.dataset: p.problems for p in found if p.problems}
    for dataset, problems in reasons.items():
        lines += _wrapped(f"{dataset}: cannot run: " + "; ".join(problem.message for problem in problems))
    waiting = [prospect for prospect in found if prospect.estimate is not None]
    return "\n".join([*map(printable, lines), *(_estimates(waiting, utilisation) if waiting else [])])


def _estimates(waiting: list[Prospect], utilisation: float) -> list[str]:
    notes: list[str] = []
    grid: list[list[str]] = []
    earlier: list[str] = []
    seen: list[tuple[str, str]] = []
    for prospect in waiting:
        job, about = prospect.job, prospect.estimate
        assert about is not None
        if (job.dataset, job.row) in seen:
            continue
        if job.dataset not in [dataset for dataset, _ in seen]:
            grid.append([f"on {job.dataset}, per job:"])
        seen.append((job.dataset, job.row))
        grid += _lines(job, about, notes)
        if about.earlier is not None:
            earlier.append(_earlier_text(job, about))
    out = ["", *_aligned([_headings(i) for i in (0, 1)], grid), ""]
    for mark, note in enumerate(notes, 1):
        out += _wrapped(f"[{mark}] {note}")
    for text in earlier:
        out += _wrapped(text)
    rates = dict.fromkeys(nominal_words(utilisation, prospect.job.precision) for prospect in waiting)
    days = f"V100-days, nominal: {'; '.join(rates)}; change it with --v100-utilisation."
    for text in (*METHOD, days):
        out += _wrapped(text)
    return out


def _lines(job: Job, about: Estimate, notes: list[str]) -> list[list[str]]:
    """The lines of one job: the first and, if it has several phases, one per phase."""

    def cell(value: float | None, style: str, key: str, mark: str = "~") -> str:
        if value is not None:
            return mark + number(value, style)
        reason = next((words for name, words in about.reasons.items() if name == key or name.startswith(f"{key}.")), "")
        return DASH + _mark(reason or "no earlier run with the same settings here", notes)

    def update(name: str) -> str:
        phase = about.phases[name]
        tried = _mark(TRIED, notes) if phase.tried and phase.flops_per_update is not None else ""
        tried += _mark(SUPPOSED, notes) if phase.supposed else ""
        left = _mark(f"without {', '.join(phase.uncounted_ops)}", notes) if phase.uncounted_ops else ""
        return cell(phase.flops_per_update, "flops", f"phases.{name}", "") + tried + left

    several, names = len(about.phases) > 1, list(about.phases)
    own = "" if several else update(names[0]) if names else cell(None, "flops", "train_flops")
    first = [
        _narrow(job), number(about.parameters, "si"), own,
        cell(about.train_flops, "flops", "train_flops"),
        cell(about.estimated_peak_bytes, "bytes", "estimated_peak_bytes"),
        cell(about.sample_flops_per_image, "flops", "sample_flops", ""),
        DASH if about.sample_nfe is None else f"{about.sample_nfe:,}",
        cell(about.v100_days, "days", "v100_days"),
    ]  # fmt: skip
    return [first, *([_phase_line(name, about.phases[name], update(name)) for name in names] if several else [])]


def _phase_line(name: str, phase: PhaseEstimate, update: str) -> list[str]:
    """One phase in the columns of its job, of which it has but some."""
    flops = "" if phase.train_flops is None else f"~{number(phase.train_flops, 'flops')}"
    days = "" if phase.v100_days is None else f"~{number(phase.v100_days, 'days')}"
    return [f"  {name}"[:18], number(phase.parameters, "si"), update, flops, "", "", "", days]


def _narrow(job: Job) -> str:
    """A row's name in the first column, 18 letters wide: the label is cut, what it conditions on is not."""
    kind = job.row.removeprefix(job.label)
    return printable(job.label)[: 18 - len(kind)] + kind


def _earlier_text(job: Job, about: Estimate) -> str:
    """`ddpm on mnist5k, from 3 earlier runs: training 60.0 s, ...`."""
    past = about.earlier
    assert past is not None
    seconds = (("training", past.train_seconds), ("sampling", past.sample_seconds), ("scoring", past.evaluate_seconds))
    words = [f"{name} ~{number(value, 'seconds')} s" for name, value in seconds if value is not None]
    if past.peak_bytes is not None:
        words.append(f"peak ~{number(past.peak_bytes, 'bytes')}")
    return f"{job.row} on {job.dataset}, from {past.runs} earlier run{'s' * (past.runs > 1)}: {', '.join(words)}."


def _mark(note: str, notes: list[str]) -> str:
    if note not in notes:
        notes.append(note)
    return f" [{notes.index(note) + 1}]"


def _headings(line: int) -> list[str]:
    parts = [heading.split("\n") for heading in HEADINGS]
    return [([""] * (2 - len(part)) + part)[line] for part in parts]


def _aligned(head: list[list[str]], grid: list[list[str]]) -> list[str]:
    """Lines of columns, the first left-aligned, the others right-aligned; a line of one cell is left as it is."""
    cells = [*head, *(line for line in grid if len(line) > 1)]
    sizes = [max((len(line[i]) for line in cells if i < len(line)), default=0) for i in range(len(HEADINGS))]
    align: list[Callable[[str, int], str]] = [str.ljust, *[str.rjust] * (len(sizes) - 1)]
    return [
        "  ".join(put(text, size) for put, text, size in zip(align, line, sizes)).rstrip() for line in [*head, *grid]
    ]


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(printable(text), WIDTH, subsequent_indent=indent, break_on_hyphens=False)
