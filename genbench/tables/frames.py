"""Records and tables -> tidy pandas frames: one row a number, a point of a curve, a run, or a row of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from genbench.metrics import metric_named
from genbench.records.record import CurvePoint, Measurement, Record
from genbench.records.record_files import curve_of
from genbench.records.run_folder import read_progress
from genbench.records.slots import flatten, slot_of
from genbench.tables.build import ending
from genbench.tables.columns import OF_RUN
from genbench.tables.formats.csv import line_of
from genbench.tables.groups import is_reference
from genbench.tables.intervals import interval_in_run
from genbench.tables.layout import Table
from genbench.tables.verdicts import verdict

if TYPE_CHECKING:
    import pandas as pd

OPTION = "option."
"""What the name of a model's option begins with as a column."""
WHO = ("run", "label", "model", "dataset", "seed", "block", "budget", "budget_unit")
WHAT = ("metric", "extractor", "split", "value", "low", "high", "stderr", "count", "kind", "better")
POINT = ("phase", "share", "step", "images", "seconds", "device_seconds", "flops")
ROW = ("table", "dataset", "block", "model", "n_ok", "n")
PARTS = ("low", "high", "rank")
"""What stands beside a value in a printed table."""


def run_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row a run: who, on what, how it ended, what it cost, and its model's options; None if not measured."""
    return _frame([{**_who(record), **_about(record), **_options(record)} for record in records], WHO)


def measurement_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row a measurement, with its run's columns and why it may not rank (`unranked`, by the run's own rulers).

    A run without measurements is one row whose `metric` is None.
    """
    lines = []
    for record in records:
        who, more = _who(record), {**_about(record), **_options(record)}
        lines += [{**who, **_measured(m, record), **more} for m in record.measurements]
        if not record.measurements:
            lines.append({**who, "metric": None, "status": record.status, "note": ending(record), **more})
    return _frame(lines, (*WHO, *WHAT))


def curve_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row a number along a training: a loss, or a metric at one of the points that `--curve` scored.

    Those of the learning curve have a `phase`, and their `metric` is `loss`, `learning_rate`, or what else the model
    reports. A last line cut short by a crash is left out. Raises CorruptData naming file and line of any other that is
    bad.
    """
    lines: list[dict[str, Any]] = []
    for record in records:
        who = _who(record)
        lines += [{**who, **point} for point in _learning(record)]
        lines += [{**who, **point} for known in curve_of(record) for point in _scored(known, record)]
    return _frame(lines, (*WHO, *POINT, *WHAT))


def table_frame(tables: Iterable[Table]) -> pd.DataFrame:
    """One row a row of the tables; by the names that a CSV has, each value with its interval and rank.

    `attrs["footnotes"]` has the sentences below the tables.
    """
    tables = list(tables)
    lines = [line_of(number, table, row) for number, table in enumerate(tables, 1) for row in table.rows]
    keys = dict.fromkeys(str(key) for table in tables for column in table.columns for key in column.keys)
    known = {name for line in lines for name in line}
    shown = [name for key in keys for name in (key, *(f"{key}.{part}" for part in PARTS)) if name in known]
    frame = _frame([{name: line.get(name) for name in (*ROW, *shown)} for line in lines], ROW)
    frame.attrs["footnotes"] = list(dict.fromkeys(note for table in tables for note in table.footnotes))
    return frame


def _frame(lines: list[dict[str, Any]], first: Sequence[str]) -> pd.DataFrame:
    """The lines as a frame whose columns begin with `first`.

    Whole numbers and truth values of options stay such, and a column without a value is one of numbers.
    """
    import pandas as pd

    names = list(dict.fromkeys([*first, *(name for line in lines for name in line)]))
    options = [name for name in names if name.startswith(OPTION)]
    frame = pd.DataFrame(lines, columns=[*(name for name in names if name not in options), *options])
    empty = [name for name in names if lines and frame[name].isna().all()]
    kinds = {name: frame[name].convert_dtypes().dtype for name in options}
    return frame.astype({**kinds, **dict.fromkeys(empty, "float64")})


def _who(record: Record) -> dict[str, Any]:
    job, reference = record.job, is_reference(record)
    return {
        "run": job.id, "label": job.label, "model": job.model, "dataset": record.dataset.name, "seed": job.seed,
        "block": "" if reference else job.block, "budget": None if reference else job.budget.amount or None,
        "budget_unit": None if reference or not job.budget.amount else job.budget.unit,
    }  # fmt: skip


def _about(record: Record) -> dict[str, Any]:
    """How the run ended, and what it cost."""
    job, sample = record.job, record.cost.sample
    return {
        "run_status": record.status, "reference": is_reference(record), "precision": job.precision,
        "device": record.environment.device, "digest": record.dataset.digest, "folder": str(record.folder or ""),
        **{key: read(record) for key, (_, _, read) in OF_RUN.items()},
        **_usage(record),
        "seconds_per_1000": 1000 * sample.seconds / sample.images if sample and sample.images else None,
    }  # fmt: skip


def _usage(record: Record) -> dict[str, float | None]:
    """What the training had of its machine; no number where that was not recorded."""
    usage = record.cost.train.usage if record.cost.train else None
    names = {"share": "processor_share"}
    fields = ("processor_seconds", "share", "others_seconds", "stopped_seconds", "gap_seconds")
    return {names.get(field, field): getattr(usage, field, None) for field in fields}


def _options(record: Record) -> dict[str, Any]:
    """The options of the model, a list as a tuple, by which rows can be grouped."""
    options = flatten(record.job.config, OPTION)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def _measured(measured: Measurement, record: Record) -> dict[str, Any]:
    slot, value = slot_of(measured, record.protocols), measured.value
    interval = None if value is None else interval_in_run(value, measured.stderr, measured.interval)
    low, high = interval or (None, None)
    names = ("value", "stderr", "count", "kind", "better", "deviation", "discrete", "protocol", "status", "note")
    return {
        "metric": slot.metric, "extractor": slot.extractor, "split": _split(measured, record), "low": low, "high": high,
        **{name: getattr(measured, name) for name in names}, "unranked": verdict([record], slot),
    }  # fmt: skip


def _split(measured: Measurement, record: Record) -> str:
    """The images that the number is of or against: `train`, `test` or `none`; `tuning` if held out for tuning."""
    name = measured.metric
    named = next((split for split in ("train", "test") if name.endswith(f"_{split}")), "none")
    split: str = record.protocols.get(measured.protocol, {}).get("split") or metric_named(name).split or named
    return "tuning" if split == "test" and record.dataset.tuning else split


def _learning(record: Record) -> Iterator[dict[str, Any]]:
    """The numbers in the lines of the run's progress.jsonl."""
    for line in read_progress(record):
        point = {"phase": "train", **{key: value for key, value in line.items() if key in POINT}}
        for name, value in line.items():
            if name not in POINT:
                yield {**point, "metric": name, "value": value, "status": "ok"}


def _scored(point: CurvePoint, record: Record) -> Iterator[dict[str, Any]]:
    """What was measured when a share of the budget was spent; if nothing was, one line that says why."""
    spent = {
        "share": point.share, "step": point.steps, "images": point.images, "seconds": point.seconds,
        "device_seconds": point.device_seconds, "flops": point.flops,
    }  # fmt: skip
    for measured in point.measurements:
        yield {**spent, **_measured(measured, record)}
    if not point.measurements:
        yield {**spent, "metric": None, "status": point.status, "note": point.note}
