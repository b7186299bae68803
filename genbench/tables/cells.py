"""The runs of one row -> the cells of a table: means with their errors, or a dash and its reason."""

from __future__ import annotations

from dataclasses import replace

from genbench.metrics import is_likelihood, metric_named
from genbench.records.record import NO_SAMPLES, Measurement, Record
from genbench.records.slots import Slot, slot_of
from genbench.tables.columns import COSTS, OF_SAMPLING, WITHOUT
from genbench.tables.groups import View, is_reference
from genbench.tables.intervals import Interval, interval_in_run, interval_over_seeds, mean_and_spread
from genbench.tables.layout import Cell, Kind, Relation
from genbench.tables.parts import lacking

NO_MODEL = "a reference row has no model, and so no likelihood, accuracy or cost"
NO_LABELS = "these images were not drawn under labels"


def cell_of(slot: Slot, views: list[View], kind: Kind) -> Cell:
    """The cell of a row (its runs, by seed) in a column: a cost, or a metric in an extractor's features."""
    return _cost_cell(slot, views, kind) if slot.metric in COSTS else _metric_cell(slot, views)


def _metric_cell(slot: Slot, views: list[View]) -> Cell:
    """The mean over the runs that finished with a value, and how many did."""
    found = [view.slots.get(slot) for view in views]
    measured = [m if view.record.status == "complete" else None for m, view in zip(found, views)]
    values = tuple(m.value if m else None for m in measured)
    ok = [m for m in measured if m and m.value is not None]
    if not ok:
        return _dash(slot, views, [m for m in found if m], values)
    ranges = tuple(_range(m) if m else None for m in measured)
    return replace(
        _mean([float(m.value) for m in ok if m.value is not None], Cell(stderr=ok[0].stderr, interval=_range(ok[0]))),
        values=values, ranges=ranges, n=len(views), count=min(m.count for m in ok), kind=ok[0].kind,
        protocol=ok[0].protocol, relation=_relation(ok[0]), parts=_parts(ok),
        note="; ".join(dict.fromkeys(m.note for m in ok if m.note)),
    )  # fmt: skip


def _range(measured: Measurement) -> Interval | None:
    """The 95 % interval within the run."""
    if measured.value is None:
        return None
    return interval_in_run(measured.value, measured.stderr, measured.interval)


def _mean(values: list[float], lone: Cell) -> Cell:
    """Mean, sample standard deviation, standard error and interval; a lone value keeps the error that `lone` has."""
    n = len(values)
    mean, spread = mean_and_spread(values)
    if spread is None:
        return replace(lone, value=mean, n_ok=1, interval_of="run" if lone.interval else "")
    interval = interval_over_seeds(values)
    return Cell(value=mean, spread=spread, stderr=spread / n**0.5, interval=interval, interval_of="seeds", n_ok=n)


def _parts(measured: list[Measurement]) -> dict[str, float]:
    """The mean of each part that all the runs have."""
    names = [name for name in measured[0].parts if all(name in m.parts for m in measured)]
    return {name: mean_and_spread([m.parts[name] for m in measured])[0] for name in names}


def _relation(measurement: Measurement) -> Relation:
    """`<=` for bounds, and for exact densities of dequantised pixels, which bound the discrete likelihood."""
    if not is_likelihood(measurement.metric) or (measurement.kind == "exact" and measurement.discrete):
        return ""
    return "~" if measurement.kind == "estimate" else "<="


def _dash(slot: Slot, views: list[View], found: list[Measurement], values: tuple[float | None, ...]) -> Cell:
    """A cell without a value: why, from the measurement, else from the failed run, else that it was not measured."""
    failed = [view.record for view in views if view.record.status != "complete"]
    status: str
    if found and found[0].value is None:
        status, note = found[0].status, found[0].note
    elif len(failed) == len(views):
        word = "has finished yet" if all(record.under_way for record in failed) else "finished"
        status, note = failed[0].status, f"no run of {failed[0].job.label} {word}"
    elif any(_measures(view.record, slot) for view in views):
        status, note = "not_comparable", "measured, but under another protocol"
    elif reason := _unable(slot, views[0].record):
        status, note = "not_applicable", reason
    else:
        status, note = "not_measured", "not measured"
    protocol = found[0].protocol if found else ""
    return Cell(values=values, n=len(views), status=status, note=note, protocol=protocol)


def _unable(slot: Slot, record: Record) -> str:
    """Why such a record never has this metric: it has no model or no samples, or the model lacks an ability; or ""."""
    metric = metric_named(slot.metric)
    if metric.labelled and record.samples.labels == "none":
        return NO_LABELS
    if is_reference(record):
        return "" if metric.of_samples else NO_MODEL
    if record.draws_nothing and metric.of_samples:
        return NO_SAMPLES
    known = record.capabilities is None or not metric.needs or metric.needs in record.capabilities
    return "" if known else f"the model has no {metric.needs}"


def _measures(record: Record, slot: Slot) -> bool:
    """Whether the record has a measurement of this slot, under whatever protocol."""
    return any(slot_of(measurement, record.protocols) == slot for measurement in record.measurements)


def _cost_cell(slot: Slot, views: list[View], kind: Kind) -> Cell:
    """The mean cost of the runs that finished; if none did, of the others, with `n_ok` 0."""
    read = COSTS[slot.metric][2]
    values = tuple(read(view.record) for view in views)
    finished = tuple(value if _complete(view.record) else None for view, value in zip(views, values))
    known = [float(value) for value in finished if value is not None]
    if known:
        return replace(_mean(known, Cell()), values=values, n=len(views), kind="exact")
    spent = [float(value) for value in values if value is not None]
    if spent:
        note = f"of {len(spent)} run{'s' * (len(spent) > 1)} that did not finish"
        mean, spread = mean_and_spread(spent)
        return Cell(value=mean, spread=spread, values=values, n=len(views), kind="exact", note=note)
    if kind != "model":
        return Cell(n=len(views), status="not_applicable", note=NO_MODEL)
    if slot.metric in OF_SAMPLING and views[0].record.draws_nothing:
        return Cell(n=len(views), status="not_applicable", note=NO_SAMPLES)
    if reason := lacking(slot.metric, views[0].record):
        return Cell(n=len(views), status="not_applicable", note=reason)
    cell = _dash(slot, views, [], values)
    return replace(cell, note=WITHOUT.get(slot.metric, "not counted")) if cell.status == "not_measured" else cell


def _complete(record: Record) -> bool:
    return record.status == "complete"
