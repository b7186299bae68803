"""What makes a number of some rows mislead: the footnotes that are read first, and on a terminal alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from genbench.metrics import metric_named
from genbench.records.equality import remarks_of
from genbench.records.record import Record
from genbench.records.slots import feature_dims, sample_count
from genbench.support.text import list_words
from genbench.tables.cost_notes import budgets_of, device_words, differing, uncounted
from genbench.tables.layout import Column, Row
from genbench.tables.panels import among
from genbench.tables.ruler import better_ruler
from genbench.tables.standings import NO_ERROR
from genbench.tables.unequal import notes_of
from genbench.tables.wording import COPYING, UNEQUAL, UNRANKED


def pressing(columns: list[Column], rows: list[Row], among: list[Column]) -> list[str]:
    """Those of the caveats that say which numbers of these rows and columns mislead; `among`: all columns there are."""
    records = [record for row in rows for record in row.records if row.kind == "model"]
    costs = {key.metric for column in columns for key in column.keys if not column.metric}
    devices = {device_words(record) for record in records}
    return [
        *tuning(records),
        *unranked(columns, among),
        *ruler_instead(records, columns),
        *copying(rows),
        *unequal(rows),
        *bare([row for row in rows if row.kind == "model"], columns),
        *behind(rows, columns),
        *([differing(budgets)] if len(budgets := budgets_of(records)) > 1 else []),
        *([f"Costs are of several devices: {', '.join(sorted(devices))}."] if costs and len(devices) > 1 else []),
        *(uncounted(records) if any(cost.endswith("flops") for cost in costs) else []),
        *warnings(rows),
        *failed(rows),
    ]


def tuning(records: list[Record]) -> Iterator[str]:
    """That held-out training images take the place of the test images, if they do."""
    if records and records[0].dataset.tuning:
        name, apart = records[0].job.dataset, records[0].dataset.counts["test"]
        yield (
            f"Tuning split: {apart:,} of the training images were held out and stand for the test images, which are "
            f"not used. Choose options by this table, and report none of it: run the choice on {name} without --tune."
        )


def ruler_instead(records: list[Record], columns: list[Column]) -> Iterator[str]:
    """Which other features may rank these images, if FID may not in those that there are."""
    refused = {column.extractor: column.unranked for column in columns if column.metric == "fid_test"}
    if records and (text := better_ruler(records[0].job.dataset, records[0].dataset.shape, refused)):
        yield text


def unranked(columns: list[Column], among: list[Column] | None = None) -> Iterator[str]:
    """Which columns may not rank, and why: what is true of all columns of an extractor is said of it.

    `among`: all columns of the table, if these are some of them.
    """
    told: dict[tuple[str, str], list[Column]] = {}
    for column in columns:
        if column.unranked:
            told.setdefault((column.extractor, column.unranked), []).append(column)
    for (extractor, why), some in told.items():
        everything = [column for column in among or columns if column.extractor == extractor and column.better]
        names = list_words(metric_named(column.metric).heading for column in some)
        where = f" ({extractor})" if extractor else ""
        what = f"{names}{where} {'are' if len(some) > 1 else 'is'} not ranked"
        if len(some) > 1 and len(some) == len(everything):
            what = f"{extractor} ranks nothing"
        yield f"{UNRANKED} {what}: {why.rstrip('.')}."


def copying(rows: list[Row]) -> Iterator[str]:
    for row in rows:
        if row.copying:
            yield (
                f"{COPYING} {row.name} copies: {row.copying.rstrip('.')}. In every column of samples it ranks behind "
                "all that do not, and is never ranked 1."
            )


def unequal(rows: list[Row]) -> Iterator[str]:
    for note in notes_of(rows):
        yield f"{UNEQUAL} {note}"


def bare(models: list[Row], columns: list[Column]) -> Iterator[str]:
    """Which values are not ranked because no error of theirs is known."""
    for column in columns:
        if names := [row.name for row in models if row.cells[column.key].unranked == NO_ERROR]:
            yield f"{column.heading} of {list_words(names)} is not ranked: {NO_ERROR}."


def behind(rows: list[Row], columns: list[Column]) -> Iterator[str]:
    """Which models cannot be ranked 1, for want of seeds."""
    models = [row for row in rows if row.kind == "model"]
    cells = [row.cells[column.key] for row in models for column in columns]
    if any(cell.rank and cell.n_ok < cell.n for cell in cells):
        yield "A model with an unfinished seed ranks after all models without one, and is never ranked 1."
    if not any(cell.rank for cell in cells):
        return
    asked: dict[str, set[int]] = {}
    for row in models:
        asked.setdefault(row.block, set()).update(r.job.seed for r in row.records if r.status == "complete")
    lacking: dict[tuple[int, ...], list[str]] = {}
    for row in models:
        if seeds := tuple(sorted(asked[row.block] - set(row.seeds))):
            lacking.setdefault(seeds, []).append(row.name)
    for seeds, names in lacking.items():
        was, its, it = ("were", "their", "they are") if len(names) > 1 else ("was", "its", "it is")
        yield (
            f"{list_words(names)} {was} not run with seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}, which "
            f"others of {its} block were: {it} compared over common seeds and never ranked 1."
        )


def rank_deficient(protocols: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Whether an FID is of no more samples than its features have dimensions, by the settings behind the FIDs."""
    for protocol in protocols:
        count, dims = sample_count(protocol), feature_dims(protocol)
        if 0 < count <= dims:
            yield f"{count:,} samples in {dims:,} feature dimensions: a rank-deficient covariance, unreliable FID."
            return


def warnings(rows: list[Row]) -> Iterator[str]:
    """What else is wrong with the samples of which models, in which seeds."""
    told: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        for record in row.records:
            for sign in record.warnings:
                if sign not in (row.copying, *remarks_of(record)):
                    told.setdefault((row.name + among(row, rows), sign), []).append(record.job.seed)
    for (name, sign), seeds in told.items():
        yield f"Warning, {name} (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}): {sign}."


def failed(rows: list[Row]) -> Iterator[str]:
    for row in rows:
        if row.note:
            yield f"{row.name}: {row.n_ok} of {row.n} seeds finished; {row.note.rstrip('.: ')}."
