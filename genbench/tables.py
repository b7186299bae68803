"""Records -> tables: the two published layouts, and the long frames that plots are drawn from.

A table never ranks two protocols, two datasets, or conditional with unconditional models; a failure is a row.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from genbench.columns import COLUMNS, COSTS, OVERALL, slot_key
from genbench.errors import CorruptData
from genbench.footnotes import caveats
from genbench.groups import (
    Group,
    View,
    comparable,
    extractor_name,
    identity,
    is_likelihood,
    is_reference,
    slot,
    unique,
    variant,
)
from genbench.layout import Cell, Column, Kind, Layout, Relation, Row, Table
from genbench.published import published_tables
from genbench.records import Measurement, Record

if TYPE_CHECKING:
    import pandas as pd


LONGEST_REASON = 200
NO_MODEL = "no model stands behind a reference row: it has no likelihood and no cost"


def make_tables(records: Iterable[Record], layout: Layout = "quality", published: bool = False) -> list[Table]:
    """The tables of one layout: one a group of comparable records, then the published ones.

    Published rows are added where their dataset is one of the records', or for all datasets with `published=True`.
    """
    records, spare = unique(records)
    groups = comparable(records)
    tables = [_table(group, layout, index, len(groups), spare) for index, group in enumerate(groups, start=1)]
    datasets = None if published else {record.dataset.name for record in records}
    return tables + published_tables(layout, datasets)


def _table(group: Group, layout: Layout, index: int, total: int, spare: list[Record]) -> Table:
    columns = COLUMNS[layout](group)
    rows = _rows(group, columns)
    members = {identity(record) for record in group.records}
    order = next((column.key for column in columns if column.metric == "fid_test"), columns[0].key)
    rows = _mark_best(_ordered(rows, order), columns)
    return Table(
        layout=layout, title=_title(group, index, total), columns=tuple(columns), rows=tuple(rows),
        footnotes=tuple(caveats(group, columns, rows, [record for record in spare if identity(record) in members])),
        dataset=group.dataset, digest=group.digest, protocols=dict(sorted(group.settings.items())),
    )  # fmt: skip


def _title(group: Group, index: int, total: int) -> str:
    stamp = group.records[0].dataset
    counts = ", ".join(f"{count:,} {split}" for split, count in stamp.counts.items())
    number = f"Group {index} of {total}: " if total > 1 else ""
    apart = f"; apart from the other groups of {group.dataset} by: {group.differs}" if group.differs else ""
    return f"{number}{group.dataset} ({counts} images; digest {group.digest[:12]}){apart}"


# Rows


def _rows(group: Group, columns: list[Column]) -> list[Row]:
    families: dict[tuple[Any, ...], list[View]] = {}
    for view in group.views:
        families.setdefault(identity(view.record), []).append(view)
    names = row_names([views[0].record for views in families.values()])
    keys = [key for column in columns for key in column.keys]
    return [
        _row(name, sorted(views, key=lambda v: v.record.job.seed), keys)
        for name, views in zip(names, families.values())
    ]


def row_names(records: list[Record]) -> list[str]:
    """A name for each: its label, and the settings that tell it from others of that label, as few as will do."""
    names = []
    for record in records:
        own = variant(record)
        rivals = [variant(other) for other in records if other is not record and _same_label(record, other)]
        telling = {}
        for key, value in own.items():
            left = [rival for rival in rivals if rival.get(key) == value]
            if len(left) < len(rivals):
                telling[key] = value
                rivals = left
        words = ", ".join(f"{key}={value}" for key, value in telling.items())
        names.append(f"{record.job.label} ({words})" if words else record.job.label)
    return names


def _same_label(one: Record, other: Record) -> bool:
    return (one.job.label, one.job.conditional) == (other.job.label, other.job.conditional)


def _row(name: str, views: list[View], keys: list[str]) -> Row:
    first = views[0].record
    kind: Kind = {"real": "real", "noise": "noise"}.get(first.job.model, "model")  # type: ignore[assignment]
    block = "" if kind != "model" else "Conditional" if first.job.conditional else "Unconditional"
    cells = {key: _cost_cell(key, views, kind) if key in COSTS else _metric_cell(key, views) for key in keys}
    return Row(
        name=name, label=first.job.label, model=first.job.model, kind=kind, block=block, cells=cells,
        dataset=first.dataset.name, conditional=first.job.conditional,
        seeds=tuple(view.record.job.seed for view in views),
        statuses=dict(Counter(view.record.status for view in views)),
        note=failures([view.record for view in views]),
        records=tuple(view.record for view in views),
    )  # fmt: skip


def failures(records: Iterable[Record]) -> str:
    """Which seeds have no result and why, equal reasons once: `seeds 0, 2 diverged: Diverged: loss not finite`."""
    seeds: dict[str, list[int]] = {}
    for record in records:
        if record.status != "complete":
            seeds.setdefault(ending(record), []).append(record.job.seed)
    return "; ".join(f"seed{'s' * (len(some) > 1)} {', '.join(map(str, some))} {why}" for why, some in seeds.items())


def ending(record: Record) -> str:
    """How a run ended and the first line of its error: `diverged: Diverged: the loss is not finite`."""
    if record.error is None:
        return record.status
    message = (record.error.message.splitlines() or [""])[0]
    return f"{record.status}: {record.error.type}: {textwrap.shorten(message, LONGEST_REASON, placeholder=' …')}"


def _metric_cell(key: str, views: list[View]) -> Cell:
    """The mean over the runs that finished with a value, and how many did."""
    found = [next((m for slot, m in view.slots.items() if slot_key(slot) == key), None) for view in views]
    measured = [m if view.record.status == "complete" else None for m, view in zip(found, views)]
    values = tuple(m.value if m else None for m in measured)
    ok = [m for m in measured if m and m.value is not None]
    if not ok:
        return _dash(key, views, [m for m in found if m], values)
    cell = _mean([float(m.value) for m in ok if m.value is not None], ok[0].stderr)
    return replace(
        cell, values=values, n=len(views), count=min(m.count for m in ok), kind=ok[0].kind, protocol=ok[0].protocol,
        interval=ok[0].interval if len(ok) == 1 else None, relation=_relation(ok[0]),
        note="; ".join(dict.fromkeys(m.note for m in ok if m.note)),
    )  # fmt: skip


def _mean(values: list[float], stderr: float | None) -> Cell:
    """Mean, sample standard deviation and standard error of finite values; `stderr` is that of a lone one."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Cell(value=mean, stderr=stderr, n_ok=1)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Cell(value=mean, spread=spread, stderr=spread / math.sqrt(n), n_ok=n)


def _relation(measurement: Measurement) -> Relation:
    """`<=` for bounds, and for exact densities of dequantised pixels, which bound the discrete likelihood."""
    if not is_likelihood(measurement.metric) or (measurement.kind == "exact" and measurement.discrete):
        return ""
    return "~" if measurement.kind == "estimate" else "<="


def _dash(key: str, views: list[View], found: list[Measurement], values: tuple[float | None, ...]) -> Cell:
    """A cell without a value: why, from the measurement, else from the failed run, else that it was not measured."""
    elsewhere = any(slot_key(slot(view.record, m)) == key for view in views for m in view.record.measurements)
    failed = [view.record for view in views if view.record.status != "complete"]
    status: str
    if found and found[0].value is None:
        status, note = found[0].status, found[0].note
    elif len(failed) == len(views):
        status, note = failed[0].status, f"no run of {failed[0].job.label} finished"
    elif elsewhere:
        status, note = "not_comparable", "measured, but under another protocol"
    elif is_reference(views[0].record) and is_likelihood(key):
        status, note = "not_applicable", NO_MODEL
    else:
        status, note = "not_measured", "not measured"
    protocol = found[0].protocol if found else ""
    return Cell(values=values, n=len(views), status=status, note=note, protocol=protocol)


def _cost_cell(key: str, views: list[View], kind: Kind) -> Cell:
    read = COSTS[key][2]
    if key == "classifier_device_seconds":
        return Cell(n=len(views), status="not_applicable", note="no classifier guidance was used")
    values = tuple(read(view.record) for view in views)
    finished = [value for view, value in zip(views, values) if view.record.status == "complete"]
    known = [float(value) for value in finished or values if value is not None]
    if known:
        return replace(_mean(known, None), values=values, n=len(views), kind="exact")
    if kind != "model":
        return Cell(n=len(views), status="not_applicable", note=NO_MODEL)
    cell = _dash(key, views, [], values)
    return replace(cell, note="not counted") if cell.status == "not_measured" else cell


def _ordered(rows: list[Row], key: str) -> list[Row]:
    """`real` first, `noise` last; models by the mean of `key` in their block, those with an unfinished seed behind."""

    def rank(row: Row) -> tuple[Any, ...]:
        cell = row.cells[key]
        place = {"real": 0, "noise": 3}.get(row.kind, 1)
        return place, row.block, row.n_ok < row.n, cell.value is None, cell.value or 0.0, row.name

    return sorted(rows, key=rank)


def _mark_best(rows: list[Row], columns: list[Column]) -> list[Row]:
    """Mark, in each block and column, the best mean among the models all of whose seeds have a value."""
    marks: set[tuple[int, str]] = set()
    for block in {row.block for row in rows if row.kind == "model"}:
        members = [(i, row) for i, row in enumerate(rows) if row.kind == "model" and row.block == block]
        for column in columns:
            if column.better is None or len(members) < 2:
                continue
            full = [(i, row.cells[column.key]) for i, row in members if row.cells[column.key].n_ok == row.n]
            ranked = [(i, cell.value) for i, cell in full if cell.value is not None and cell.relation != "~"]
            if ranked:
                best = (min if column.better == "lower" else max)(value for _, value in ranked)
                marks |= {(i, column.key) for i, value in ranked if value == best}
    return [
        replace(row, cells={key: replace(cell, best=(i, key) in marks) for key, cell in row.cells.items()})
        for i, row in enumerate(rows)
    ]


# Frames


def run_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row a record: who, on what, how it ended, and what it cost; None where a number was not measured."""
    import pandas as pd

    return pd.DataFrame([_run_columns(record) for record in records])


def _run_columns(record: Record) -> dict[str, Any]:
    job, sample = record.job, record.cost.sample
    return {
        "job": job.id, "model": job.model, "label": job.label, "dataset": record.dataset.name,
        "digest": record.dataset.digest, "conditional": job.conditional, "seed": job.seed,
        "run_status": record.status, "device": record.environment.device,
        **{key: read(record) for key, (_, _, read) in COSTS.items() if key not in OVERALL},
        "seconds_per_1000": 1000 * sample.seconds / sample.images if sample and sample.images else None,
    }  # fmt: skip


def measurement_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row a measurement, with its job's columns; a run without measurements is one row whose `metric` is None."""
    import pandas as pd

    lines = []
    for record in records:
        job = _run_columns(record)
        for m in record.measurements:
            extractor = extractor_name(record.protocols.get(m.protocol, {}))
            lines.append({**job, "extractor": extractor, **m.model_dump(include=set(Measurement.model_fields))})
        if not record.measurements:
            lines.append({**job, "metric": None, "value": None, "status": record.status, "note": ending(record)})
    return pd.DataFrame(lines)


def progress_frame(records: Iterable[Record]) -> pd.DataFrame:
    """The learning curves: one row a line of each progress.jsonl (step, images, phase, loss, ...), with its job.

    A last line cut short by a crash is left out. Raises CorruptData naming file and line of any other that is bad.
    """
    import pandas as pd

    lines: list[dict[str, Any]] = []
    for record in records:
        who = {"job": record.job.id, "label": record.job.label, "seed": record.job.seed}
        lines += [{**who, "phase": "train", **line} for line in read_progress(record)]
    return pd.DataFrame(lines, columns=None if lines else ["job", "label", "seed", "phase", "images", "loss"])


def read_progress(record: Record) -> list[dict[str, Any]]:
    """The objects of a run's progress.jsonl, in order; none where the run has no folder or no such file."""
    file = record.folder / "progress.jsonl" if record.folder else None
    if file is None or not file.is_file():
        return []
    found: list[dict[str, Any]] = []
    texts = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text, parse_constant=lambda name: None)
            if not isinstance(line, dict):
                raise ValueError("not an object")
        except ValueError as error:
            if number == len(texts) and not text.endswith("\n"):
                break
            raise CorruptData(f"{file}:{number}: {error}", "remove the line, or run the job again") from error
        found.append(line)
    return found
