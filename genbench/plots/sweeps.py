"""Tables -> the figure of quality over an option of sampling, for rows of one training that differ in it alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from genbench.plots.cost import stacked
from genbench.plots.panels import BARS, Looks, palette, unranked_words
from genbench.plots.style import captioned, most, panels_of, scale, shared_legend, short, styled
from genbench.tables.layout import Column, Table
from genbench.tables.panels import blocks_of, title_of, unfinished
from genbench.tables.swept import Sweep, sweeps_of
from genbench.tables.wording import heading_text, metric_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE, LONGEST = (3.7, 2.8), 36
"""Inches of a panel, and letters of its title."""
METRICS = (
    "inception_score", "fid_test", "precision", "recall", "class_accuracy", "aligned_share", "all_right_new",
    "free_place_tv", "energy_score", "dispersion",
)  # fmt: skip
"""What a panel each is of."""


def sampling_options(tables: Iterable[Table], looks: Looks | None = None) -> Figure:
    """Quality, and how samples answer conditions, over each option of sampling that varies, a line a training."""
    tables = list(tables)
    looks = looks or palette(tables)
    with styled():
        found = [panel for table in tables if not table.published for panel in _panels(table)]
        shown, missing = most(found)
        figure, axes = panels_of(len(shown), SIZE, columns=2)
        handles: dict[str, Any] = {}
        for ax, (table, column, sweeps) in zip(axes, shown):
            handles |= _draw(ax, column, sweeps, looks)
            title = f"{metric_words(column)}, {title_of(table, sweeps[0].rows[0].block)}"
            ax.set(title=short(title, LONGEST), xlabel=sweeps[0].option, ylabel=stacked(heading_text(column)))
            missing += [words for sweep in sweeps for words in _missing(sweep, column)]
        if handles:
            shared_legend(axes, 2, list(handles.values()), list(handles))
        doubts = [unranked_words([table], column.metric) for table, column, _ in shown]
        text = (
            "A line joins rows that share one training and differ in this option of sampling alone; points are means "
            f"over the seeds. {BARS}{''.join(dict.fromkeys(doubts))}"
        )
        return captioned(figure, text, missing)


def _panels(table: Table) -> Iterator[tuple[Table, Column, list[Sweep]]]:
    """A panel for each block, option and extractor, and of these each metric that any row has."""
    for block in blocks_of(table):
        rows = [row for row in table.rows if row.kind == "model" and row.block == block and row.records]
        by_option: dict[str, list[Sweep]] = {}
        for sweep in sweeps_of(rows):
            by_option.setdefault(sweep.option, []).append(sweep)
        for sweeps in by_option.values():
            for extractor in dict.fromkeys(column.extractor for column in table.columns if column.metric in METRICS):
                own = {column.metric: column for column in table.columns if column.extractor == extractor}
                yield from ((table, own[metric], sweeps) for metric in METRICS if metric in own)


def _draw(ax: Axes, column: Column, sweeps: Iterable[Sweep], looks: Looks) -> dict[str, Any]:
    """A line for each sweep with the intervals of its points, in the look of its first row; its handle by its name."""
    handles: dict[str, Any] = {}
    xs: list[float] = []
    ys: list[float] = []
    for sweep in sweeps:
        colour, marker = looks[sweep.rows[0].name]
        cells = [(sweep.value(row), row.cells[column.key]) for row in sweep.rows]
        points = [(x, cell.value) for x, cell in cells if cell.value is not None]
        if not points:
            continue
        (handles[short(sweep.name)],) = ax.plot(
            *zip(*points), color=colour, marker=marker, markersize=6, linewidth=1.3, clip_on=False
        )
        for x, cell in cells:
            if cell.value is not None and cell.interval is not None:
                ax.vlines([x], *cell.interval, colors=colour, linewidth=1.2, zorder=3)
                ys.append(cell.interval[1])
        xs += [x for x, _ in points]
        ys += [y for _, y in points]
    scale(ax, "x", xs)
    scale(ax, "y", ys)
    return handles


def _missing(sweep: Sweep, column: Column) -> Iterator[str]:
    """The rows that have no number, and why."""
    yield from unfinished(sweep.rows)
    for row in sweep.rows:
        cell = row.cells[column.key]
        if cell.value is None and row.n_ok == row.n:
            yield f"{metric_words(column)} of {row.name} ({cell.note})"
