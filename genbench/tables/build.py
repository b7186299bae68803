"""Records -> tables: the two published layouts and others.

A table never ranks two protocols, two datasets, or conditional with unconditional models; a failure is a row.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from genbench.metrics import metrics_in
from genbench.records.record import ALWAYS, Record
from genbench.records.slots import Slot
from genbench.tables.cells import cell_of
from genbench.tables.copying import copying, without_copies
from genbench.tables.filled import is_filled
from genbench.tables.footnotes import caveats
from genbench.tables.groups import Group, View, comparable, identity, is_reference, unique, variant
from genbench.tables.layout import Cell, Column, Kind, Layout, Row, Table
from genbench.tables.layouts import CHOSEN, FULL, layouts
from genbench.tables.limits import doubted
from genbench.tables.published import published_tables
from genbench.tables.standings import ranked
from genbench.tables.unequal import unequal
from genbench.tables.verdicts import judged

LONGEST_REASON = 200


def make_tables(records: Iterable[Record], layout: str | Layout = "quality", published: bool = False) -> list[Table]:
    """The tables of one layout, by name or made up: one per group of comparable records, then the published ones.

    Published rows are added if their dataset is one of the records', with `published=True` for all datasets.
    """
    if isinstance(layout, Layout):
        records, spare = unique(records)
        return _tables(comparable(records), layout, CHOSEN, spare)
    return make_layouts(records, [layout], published)[layout]


def make_layouts(records: Iterable[Record], names: Iterable[str], published: bool = False) -> dict[str, list[Table]]:
    """The tables of each layout, as `make_tables` gives them, of records that are grouped once."""
    records, spare = unique(records)
    groups = comparable(records)
    datasets = None if published else {record.dataset.name for record in records}
    known = {name: layouts()[name] for name in names}
    return {
        name: _tables(groups, layout, name, spare) + published_tables(layout.published, datasets)
        for name, layout in known.items()
    }


def _tables(groups: list[Group], layout: Layout, name: str, spare: list[Record]) -> list[Table]:
    return [
        _table(part, own, name, index, len(groups), spare)
        for index, group in enumerate(groups, start=1)
        for own, part in (layout.parts(group) if layout.parts else [(layout, group)])
    ]


def _table(group: Group, layout: Layout, name: str, index: int, total: int, spare: list[Record]) -> Table:
    columns = [in_words_of(group, judged(column, group)) for column in layout.columns(group)]
    rows = layout.finish([doubted(row) for row in _rows(group, columns)], group)
    shown = rows if name == FULL else without_copies(rows, columns)
    rows, pairs = ranked(shown if layout.paired else _ordered(shown, _order(layout, columns)), columns)
    members = {view.identity for view in group.views}
    doubles = [record for record in spare if identity(record) in members]
    filled = [column for column in columns if is_filled(column, rows)]
    told, run = layout.told(rows, columns), [row for row in rows if row.records]
    return Table(
        layout=name, title=_title(group, index, total), columns=tuple(columns), rows=tuple(rows),
        footnotes=(*told, *caveats(group, filled, run, doubles, tested=bool(pairs))),
        dataset=group.dataset, digest=group.digest, protocols=dict(sorted(group.settings.items())),
        differs=group.differs, pairs=tuple(pairs), told=tuple(told), paired=layout.paired,
    )  # fmt: skip


def in_words_of(group: Group, column: Column) -> Column:
    """The column, whose heading says `held-out` for `test` if held-out training images take the test images' place."""
    return replace(column, heading=re.sub(r"\btest\b", "held-out", column.heading)) if group.is_tuning else column


def _title(group: Group, index: int, total: int) -> str:
    stamp = group.records[0].dataset
    counts = ", ".join(f"{count:,} {split}" for split, count in stamp.counts.items()) + " images"
    if stamp.tuning:
        counts = f"{stamp.counts['test']:,} of the {sum(stamp.counts.values()):,} training images held out"
    number = f"Group {index} of {total}: " if total > 1 else ""
    apart = f"; apart from the other groups of {group.dataset} by: {group.differs}" if group.differs else ""
    return f"{number}{group.dataset} ({counts}; digest {group.digest[:12]}){apart}"


# Rows


def _rows(group: Group, columns: list[Column]) -> list[Row]:
    families: dict[tuple[Any, ...], list[View]] = {}
    for view in group.views:
        families.setdefault(view.identity, []).append(view)
    names = row_names([views[0].record for views in families.values()])
    keys = [key for column in columns for key in column.keys]
    return [
        row_of(name, sorted(views, key=lambda v: v.record.job.seed), keys)
        for name, views in zip(names, families.values())
    ]


def row_names(records: list[Record]) -> list[str]:
    """A name for each: its label, and the fewest settings that distinguish it from others of that label."""
    variants: dict[tuple[str, str], list[dict[str, str]]] = {}
    own = [variant(record) for record in records]
    for record, settings in zip(records, own):
        variants.setdefault((record.job.label, record.job.block), []).append(settings)
    names = []
    for record, settings in zip(records, own):
        words = _distinguishing(settings, variants[record.job.label, record.job.block])
        names.append(f"{record.job.label} ({words})" if words else record.job.label)
    return names


def _distinguishing(own: dict[str, str], rivals: list[dict[str, str]]) -> str:
    """The settings that distinguish `own` from its rivals, of which it is one: `budget=60 seconds, steps=100`."""
    telling = []
    for key, value in own.items():
        if len(rivals) == 1:
            break
        left = [rival for rival in rivals if rival.get(key) == value]
        if len(left) < len(rivals):
            telling.append(f"{key}={value}")
            rivals = left
    return ", ".join(telling)


def row_of(name: str, views: list[View], keys: list[Slot]) -> Row:
    """The row of the runs of one model, by seed, with a cell for each key."""
    first = views[0].record
    kind: Kind = first.job.model if is_reference(first) else "model"  # type: ignore[assignment]
    block = "" if kind in ALWAYS else first.job.block
    copied = [sentence for view in views if (sentence := copying(view.record))] if kind == "model" else []
    return Row(
        name=name, label=first.job.label, model=first.job.model, kind=kind, block=block,
        cells={key: cell_of(key, views, kind) for key in keys},
        dataset=first.dataset.name, conditional=first.job.conditional,
        seeds=tuple(view.record.job.seed for view in views),
        statuses=dict(Counter(view.record.status for view in views)),
        note=failures([view.record for view in views]),
        copying=copied[0] if copied else "",
        unequal=unequal([view.record for view in views]),
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


def _order(layout: Layout, columns: list[Column]) -> Column | None:
    """The column that orders the models: the layout's own or, if that may not rank, one that a headline may take."""
    metrics = [layout.order, *metrics_in("headline")]
    found = [column for metric in metrics for column in columns if column.metric == metric]
    return next((column for column in found or columns if not column.unranked), None)


def _ordered(rows: list[Row], order: Column | None) -> list[Row]:
    """`real` first, `noise` last; models by a column's means in their block, or by name if there is none.

    Those that copy are last, and before them unfinished and flagged ones.
    """
    sign = -1 if order and order.better == "higher" else 1

    def place_of(row: Row) -> tuple[Any, ...]:
        cell = row.cells[order.key] if order else Cell(value=0.0)
        place = {"real": 0, "copies": 1, "noise": 3}.get(row.kind, 2)
        value = sign * (cell.value or 0.0)
        return place, row.block, bool(row.copying), row.n_ok < row.n, cell.value is None, cell.flag, value, row.name

    return sorted(rows, key=place_of)
