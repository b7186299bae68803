"""Tables -> figures of FID against a cost: as published on the left, and on the right the same models as measured here.

Each side has axes of its own, since images, features and devices differ, and nothing is ranked from one to the other. A
model has one colour and one marker on both, hollow where it is published.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genbench.plots.cost import draw_mark, points_of, stacked
from genbench.plots.panels import BARS, Looks, palette, unranked_words
from genbench.plots.style import MARKERS, Look, captioned, most, panels_of, scale, shared_legend, short, styled
from genbench.records.record import Record
from genbench.records.slots import Slot
from genbench.tables.layout import Cell, Column, Row, Table
from genbench.tables.pairs import Pair, counterparts, paired_tables, pairs_of
from genbench.tables.panels import title_of, unfinished
from genbench.tables.published import published
from genbench.tables.wording import has_value, heading_text, metric_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE, LONGEST = (3.7, 2.8), 42
"""Inches of a panel, and letters of its title."""
UNMEASURED = ("#8a8a94", "#4a4a54", "#bcbcc4")
"""The colours of published rows without a run: the next one when all markers are taken."""
APART = (
    "Left: as published, hollow. Right: the same models as measured here. Images, features and devices differ, so that "
    "nothing is ranked from one side to the other."
)
WITH_FIRST_STAGE = "Compute here has the first stage in it, which the published has not."
NO_FACTOR = "Here it is in device-seconds, as no factor to V100-days was given for all of the runs (--v100-factor)."
Cost = Callable[[Record], float | None]


@dataclass(frozen=True)
class Block:
    """One block of a published table with the runs that are paired with its rows, and the FIDs of both sides."""

    table: Table
    pairs: tuple[Pair, ...]
    there: Column
    here: Column

    @property
    def name(self) -> str:
        return self.pairs[0].printed.block

    @property
    def measured(self) -> list[Row]:
        return [row for pair in self.pairs for row in pair.measured]

    @property
    def conditioned(self) -> str:
        """The block that the runs with an FID stand in: a first stage without one may be of another."""
        scored = [row for row in self.measured if row.cells[self.here.key].value is not None]
        return (scored or self.measured)[0].block


def fid_against_compute(tables: Iterable[Table], looks: Looks | None = None) -> Figure:
    """FID over the compute of the whole training: V100-days, or device-seconds here if any run has no factor."""
    tables = list(tables)
    found = list(_blocks(tables, "overall_v100_days"))
    trained = [record.cost.train for block in found for row in block.measured for record in row.records]
    in_days = bool(trained) and all(cost is None or cost.v100_days is not None for cost in trained)
    unit, words = ("v100_days", "V100-days") if in_days else ("device_seconds", "device-seconds")
    text = f"Lower and further left is better. {APART} {WITH_FIRST_STAGE}{'' if in_days else f' {NO_FACTOR}'}"
    labels = "overall compute, V100-days", f"overall compute, {words}"
    looks = looks or palette(tables)
    return _figure(found, "overall_v100_days", lambda r: getattr(r.cost.train, unit, None), labels, text, looks)


def fid_against_throughput(tables: Iterable[Table], looks: Looks | None = None) -> Figure:
    """FID over samples per second, each side at its own batch on its own device."""
    tables = list(tables)
    found = list(_blocks(tables, "images_per_second"))
    batches = {r.cost.sample.batch for b in found for row in b.measured for r in row.records if r.cost.sample}
    at = f" Here it is at batch {', '.join(map(str, sorted(batches)))}." if batches else ""
    text = f"Lower and further right is better. {APART}{at}"
    return _figure(found, "images_per_second", _speed, ("samples/s", "samples/s"), text, looks or palette(tables))


def _speed(record: Record) -> float | None:
    return record.cost.sample.images_per_second if record.cost.sample else None


def _blocks(tables: Iterable[Table], cost: str) -> Iterator[Block]:
    """The blocks that have a published FID and such a cost, and at least one run."""
    for table in tables:
        records = [row.records[0] for row in table.rows if row.kind == "model" and row.records]
        for name in paired_tables(records) if not table.published else ():
            costs = {column.key.metric for column in published(name).table.columns}
            fids = [both for both in counterparts(table.columns, name) if both[0].key.metric.startswith("fid")]
            pairs = pairs_of(table.rows, name)
            for block in dict.fromkeys(pair.printed.block for pair in pairs if pair.measured):
                own = tuple(pair for pair in pairs if pair.printed.block == block)
                for there, here in fids if cost in costs else ():
                    yield Block(table, own, there, here)


def _figure(
    found: Sequence[Block], printed: str, cost: Cost, labels: tuple[str, str], text: str, looks: Looks
) -> Figure:
    """A row of two panels for each block, the models of all of them in one legend."""
    with styled():
        shown, missing = most(list(found), 6)
        figure, axes = panels_of(2 * len(shown), SIZE, columns=2)
        handles: dict[str, Any] = {}
        for block, left, right in zip(shown, axes[::2], axes[1::2]):
            where = f", {block.pairs[0].printed.dataset}" if len({each.name for each in shown}) > 1 else ""
            own = _looks(block, looks)
            hollow, drawn = _draw_published(left, block, printed, own), _draw_measured(right, block, cost, own)
            for pair in block.pairs:
                filled = [drawn[row.name] for row in pair.measured if row.name in drawn]
                if marks := [hollow[pair.printed.name]] if pair.printed.name in hollow else filled:
                    handles[f"{short(pair.printed.name)}{where}"] = marks[0]
            left.set(title=short(f"paper: {block.name}", LONGEST), xlabel=labels[0], ylabel=metric_words(block.there))
            right.set(xlabel=labels[1], ylabel=stacked(heading_text(block.here)))
            right.set_title(short(f"here: {title_of(block.table, block.conditioned)}", LONGEST))
            missing += [*_missing(block, printed, drawn), *unfinished(block.measured)]
        if handles:
            shared_legend(axes, 2, list(handles.values()), list(handles))
        doubts = [unranked_words([block.table], block.here.metric) for block in shown]
        text = f"{text} {BARS}{''.join(dict.fromkeys(doubts))}"
        return captioned(figure, text, missing)


def _looks(block: Block, looks: Looks) -> dict[str, Look]:
    """The look of each published row: that of its first run, or a grey and a marker that no other such row has."""
    found: dict[str, Look] = {}
    for i, pair in enumerate(block.pairs):
        grey = UNMEASURED[i // len(MARKERS) % len(UNMEASURED)], MARKERS[i % len(MARKERS)]
        found[pair.printed.name] = looks[pair.measured[0].name] if pair.measured else grey
    return found


def _draw_published(ax: Axes, block: Block, printed: str, looks: Looks) -> dict[str, Any]:
    """Hollow marks, two with a line between them for a printed range; the handle of each row that is drawn."""
    style: Any = {"markersize": 8, "markerfacecolor": "none", "linewidth": 1.2}
    handles: dict[str, Any] = {}
    xs: list[float] = []
    ys: list[float] = []
    for row in [pair.printed for pair in block.pairs]:
        fid, ends = row.cells[block.there.key].value, _ends(row.cells[Slot(printed)])
        if fid is not None and ends:
            colour, marker = looks[row.name]
            (handles[row.name],) = ax.plot(ends, [fid] * len(ends), color=colour, marker=marker, **style)
            xs += ends
            ys.append(fid)
    scale(ax, "x", xs)
    scale(ax, "y", ys)
    return handles


def _ends(cell: Cell) -> list[float]:
    """The printed number, or both ends of a printed range; none if there is nothing."""
    return [] if not has_value(cell) else [cell.value] if cell.value is not None else list(cell.interval or ())


def _draw_measured(ax: Axes, block: Block, cost: Cost, looks: Looks) -> dict[str, Any]:
    """A filled mark for each measured row, and small ones for its runs; the handle of each row that is drawn."""
    drawn: dict[str, Any] = {}
    every: list[tuple[float, float]] = []
    for pair in block.pairs:
        for row in pair.measured:
            cell = row.cells[block.here.key]
            if points := points_of(row, cell, cost):
                drawn[row.name] = draw_mark(ax, points, *looks[pair.printed.name], cell)
                every += points
    scale(ax, "x", [x for x, _ in every])
    scale(ax, "y", [y for _, y in every])
    return drawn


def _missing(block: Block, printed: str, drawn: Collection[str]) -> Iterator[str]:
    """The rows that are not drawn on one side, and why."""
    for pair in block.pairs:
        cells = [pair.printed.cells[key] for key in (block.there.key, Slot(printed))]
        lacks = [cell for cell in cells if not has_value(cell)]
        if lacks and pair.measured:
            yield f"{pair.printed.name} in the paper ({lacks[0].note})"
        for row in pair.measured:
            if row.name not in drawn and row.n_ok == row.n:
                yield f"{row.name} here ({row.cells[block.here.key].note or 'no such cost counted'})"
