"""Tables -> figures: quality against cost, likelihoods, learning curves and samples, one colour a model throughout.

They are drawn from the tables of the layout `full`. A plot shows together only what a table ranks together: a panel for
each group, conditional or not, and extractor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from genbench.groups import is_reference
from genbench.layout import Cell, Column, Row, Table
from genbench.plots_bound import bound_over_time
from genbench.record_files import curve_of
from genbench.records import CurvePoint, Record
from genbench.sheets import COUNT, first_samples, sheet
from genbench.style import INK, REFERENCE_LINES, Look, captioned, legend, looks_of, panels_of, scale, short, styled
from genbench.tables import read_progress
from genbench.wording import NO_BREAK, heading_text, number, value_text

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVE_TITLE = 28
LOW_LEGEND, MOST_NAMED = 12, 20
"""Models in the legend of a low panel, and of any."""
MOST_LINES = 10
"""Runs of a row whose curves are drawn: more could not be told apart."""
CROWD = 50
"""Lines in a panel beyond which they are drawn as pixels: files stay small."""
BARS = "Bars: 95 % intervals, over seeds where several finished, else within the one run."
Looks = Mapping[str, Look]
Cost = Callable[[Record], float | None]
Spent = Callable[[CurvePoint], float | None]
Points = list[tuple[float, float]]


def palette(tables: Iterable[Table]) -> dict[str, Look]:
    """A look for each model, by the name of its row, the same in every plot that is given it."""
    return looks_of(row.name for row in _rows(tables) if row.kind == "model")


def _rows(tables: Iterable[Table]) -> list[Row]:
    """The rows of what was measured, table by table."""
    return [row for table in tables if not table.published for row in table.rows]


@dataclass(frozen=True)
class Panel:
    """The models ranked in one block of one column of one table."""

    table: Table
    block: str
    column: Column

    @property
    def rows(self) -> list[Row]:
        return [row for row in self.table.rows if row.kind == "model" and row.block == self.block]

    @property
    def title(self) -> str:
        return f"{short(self.table.dataset)}, {self.block.lower()}"

    def cell(self, row: Row) -> Cell:
        return row.cells[self.column.key]

    def reference(self, kind: str) -> float | None:
        """The value of `real` or `noise` in this column."""
        return next((self.cell(row).value for row in self.table.rows if row.kind == kind), None)

    def missing(self, drawn: set[str]) -> list[str]:
        """Which runs are not drawn, and why: a failure never leaves a plot without a word."""
        told = []
        for row in self.rows:
            if row.n_ok < row.n:
                told.append(
                    f"{row.n - row.n_ok} of {row.n} runs of {row.name} ({', '.join(set(row.statuses) - {'complete'})})"
                )
            elif row.name not in drawn:
                told.append(f"{row.name} ({self.cell(row).note or 'no such cost counted'})")
        return told


def panels(tables: Iterable[Table], metric: str) -> list[Panel]:
    """A panel for each group, block and extractor in which the metric was measured."""
    return [
        Panel(table, block, column)
        for table in tables
        if not table.published
        for block in dict.fromkeys(row.block for row in table.rows if row.kind == "model")
        for column in table.columns
        if column.metric == metric
    ]


# Quality against cost


def fid_against_training(
    tables: Iterable[Table], unit: Literal["device_seconds", "flops"] = "device_seconds", looks: Looks | None = None
) -> Figure:
    """FID over what training cost: a mark a model (its mean; small: its seeds), `real` and `noise` as lines.

    Runs that kept a curve lead up to their mark in a thin line, one a seed.
    """
    label = {"device_seconds": "device-seconds", "flops": "FLOPs"}[unit]
    text = f"FID against the {label} of training; lower and further left is better. {BARS}"
    return _against(
        list(tables), f"training, {label}", text, lambda r: getattr(r.cost.train, unit, None) or None, looks,
        spent=lambda point: getattr(point, unit) or None,
    )  # fmt: skip


def fid_against_sampling(tables: Iterable[Table], looks: Looks | None = None) -> Figure:
    """FID over the seconds that 1,000 samples take."""
    text = f"FID against the seconds that 1,000 samples take; lower and further left is better. {BARS}"
    return _against(list(tables), "sampling, seconds per 1,000 images", text, _seconds_per_1000, looks)


def _seconds_per_1000(record: Record) -> float | None:
    sample = record.cost.sample
    return 1000 * sample.seconds / sample.images if sample and sample.images else None


def _against(
    tables: list[Table], label: str, text: str, cost: Cost, looks: Looks | None, spent: Spent | None = None
) -> Figure:
    looks = looks or palette(tables)
    with styled():
        shown = panels(tables, "fid_test")
        height = 5.0 if any(len(panel.rows) > LOW_LEGEND for panel in shown) else 3.4
        figure, axes = panels_of(len(shown), (6.6, height), columns=1)
        missing, curved = [], False
        for ax, panel in zip(axes, shown):
            curves, gaps = _curves(panel, spent) if spent else ({}, [])
            missing += [*_draw_against(ax, panel, label, cost, looks, curves), *gaps]
            curved = curved or bool(curves or gaps)
        if curved:
            text += f" Lines: the same runs at earlier shares of their budgets, one a seed{_most(tables)}."
        return captioned(figure, text, missing)


def _draw_against(
    ax: Axes, panel: Panel, label: str, cost: Cost, looks: Looks, curves: Mapping[str, list[Points]]
) -> list[str]:
    """Draw one panel and say what is missing from it."""
    points = {row.name: _points(row, panel.cell(row), cost) for row in panel.rows}
    crowded = sum(map(len, curves.values())) > CROWD
    for name, paths in curves.items():
        _draw_lines(ax, paths, looks[name], crowded, linewidth=1.0, alpha=0.7)
    handles: list[Any] = []
    words: list[str] = []
    shown = [row for row in panel.rows if points[row.name]]
    for row in shown:
        handles.append(_mark(ax, points[row.name], *looks[row.name], panel.cell(row)))
        part = f" ({row.n_ok}/{row.n} runs)" if row.n_ok < row.n else ""
        words.append(f"{short(row.name)}  {number(panel.cell(row).value or 0.0, 'fid')}{part}")
    if len(shown) > MOST_NAMED:
        del handles[MOST_NAMED:], words[MOST_NAMED:]
        handles.append(ax.plot([], [], linestyle="")[0])
        words.append(f"and {len(shown) - MOST_NAMED} more, see the table")
    lines = {kind: value for kind in REFERENCE_LINES if (value := panel.reference(kind)) is not None}
    for kind, value in lines.items():
        dash, grey = REFERENCE_LINES[kind]
        handles.append(ax.axhline(value, linestyle=dash, color=grey, linewidth=1.3))
        words.append(f"{kind}  {number(value, 'fid')}")
    joined = [point for paths in curves.values() for path in paths for point in path]
    drawn = [*(point for row in shown for point in points[row.name]), *joined]
    wide = 1.0 if joined else 5.0
    scale(ax, "x", [x for x, _ in drawn], wide)
    heights = [*(y for _, y in drawn), *lines.values()]
    ends = [end for row in shown for end in panel.cell(row).interval or ()]
    scale(ax, "y", heights + [end for end in ends if end > min(heights) / 5], wide)
    ax.set(title=panel.title, xlabel=label, ylabel=_stacked(heading_text(panel.column)))
    legend(ax, handles, words)
    return panel.missing({row.name for row in shown})


def _draw_lines(ax: Axes, lines: Iterable[Points | np.ndarray], look: Look, crowded: bool, **style: Any) -> None:
    """A line a run with a mark at each point; in a crowd as pixels and without marks, which nobody could tell apart."""
    from matplotlib.collections import LineCollection

    colour, marker = look
    if crowded:
        ax.add_collection(LineCollection(list(lines), colors=colour, rasterized=True, **style))
        return
    for points in lines:
        ax.plot(*zip(*points), color=colour, marker=marker, markersize=2.5, **style)


def _stacked(heading: str) -> str:
    """The metric on one line, its extractor on the next."""
    metric, _, extractor = heading.replace(NO_BREAK, " ").partition(" (")
    return short(metric) + (f"\n({short(extractor)}" if extractor else "")


def _curves(panel: Panel, spent: Spent) -> tuple[dict[str, list[Points]], list[str]]:
    """By row (cost, value) along each finished run's curve, where it was measured under the panel's protocol.

    Of the first MOST_LINES runs, by seed. Then which points of the curves have no number, and why.
    """
    paths: dict[str, list[Points]] = {}
    told: dict[tuple[str, str], list[str]] = {}
    for row in panel.rows:
        for record in row.records[:MOST_LINES]:
            curve = curve_of(record)
            path = [
                (x, m.value)
                for point in curve
                for m in point.measurements
                if m.metric == panel.column.metric and m.protocol == panel.cell(row).protocol
                if (x := spent(point)) is not None and m.value is not None
            ]
            if record.status == "complete" and len(path) > 1:
                paths.setdefault(row.name, []).append(path)
            run = f"{row.name}'s curve" + (f" of seed {record.job.seed}" if row.n > 1 else "")
            for point in curve:
                if point.status != "ok":
                    told.setdefault((run, point.note), []).append(f"{100 * point.share:.2g} %")
    return paths, [f"{run} at {', '.join(shares)} of the budget ({note})" for (run, note), shares in told.items()]


def _points(row: Row, cell: Cell, cost: Cost) -> Points:
    """(cost, value) of each run that has both."""
    pairs = [(cost(record), value) for record, value in zip(row.records, cell.values)]
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def _mark(ax: Axes, points: Points, colour: str, marker: str, cell: Cell) -> Any:
    """A small mark a run, where there are several, and a large one with the interval at their mean."""
    xs, ys = zip(*points)
    look: Any = {"color": colour, "marker": marker, "linestyle": ""}
    if len(points) > 1:
        ax.plot(xs, ys, markersize=4.7, alpha=0.6, markeredgewidth=0, **look)
    x, y = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    (mark,) = ax.plot([x], [y], markersize=9, markeredgecolor="white", markeredgewidth=0.8, zorder=3, **look)
    if cell.value is not None and cell.interval is not None:
        ax.vlines([x], *cell.interval, colors=colour, linewidth=1.2)
    return mark


# Likelihoods


def likelihoods(tables: Iterable[Table], looks: Looks | None = None) -> Figure:
    """Bits per dimension: a bar a model on test images with its error, a pale one on training images."""
    tables = list(tables)
    looks = looks or palette(tables)
    with styled():
        found = [(panel, _with_bits(panel)) for panel in panels(tables, "bits_per_dim_test")]
        shown = [(panel, rows) for panel, rows in found if rows]
        tallest = max((len(rows) for _, rows in shown), default=1)
        figure, axes = panels_of(len(shown), (6.6, 1.2 + 0.42 * tallest), columns=1)
        missing = [word for ax, (panel, rows) in zip(axes, shown) for word in _draw_bits(ax, panel, rows, looks)]
        text = "Bits per dimension on test images and below each, pale, on training images; lower is better."
        return captioned(figure, f"{text} ≤ marks upper bounds, ~ estimates. {BARS}", missing)


def _with_bits(panel: Panel) -> list[Row]:
    """The rows that have a likelihood, the worst first, since bars are drawn upwards."""
    rows = [row for row in panel.rows if panel.cell(row).value is not None]
    return sorted(rows, key=lambda row: (row.n_ok < row.n, panel.cell(row).value or 0.0), reverse=True)


def _draw_bits(ax: Axes, panel: Panel, rows: list[Row], looks: Looks) -> list[str]:
    """Draw one panel and say what is missing from it."""
    cells, colours = [panel.cell(row) for row in rows], [looks[row.name][0] for row in rows]
    values = [cell.value or 0.0 for cell in cells]
    ax.barh([i + 0.12 for i in range(len(rows))], values, height=0.44, color=colours, linewidth=0)
    trained = [
        (i - 0.22, value, colours[i])
        for i, row in enumerate(rows)
        if (value := row.cells.get("bits_per_dim_train", Cell()).value) is not None
    ]
    if trained:
        heights, widths, pale = zip(*trained)
        ax.barh(heights, widths, height=0.2, color=pale, alpha=0.45, linewidth=0)
    ends = [(i + 0.12, *cell.interval) for i, cell in enumerate(cells) if cell.interval]
    if ends:
        places, lows, highs = zip(*ends)
        ax.hlines(places, lows, highs, colors=INK, linewidth=1.2)
    for i, (cell, value) in enumerate(zip(cells, values)):
        end = (cell.interval[1] if cell.interval else value, i + 0.12)
        ax.annotate(value_text(cell, "bits"), end, xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    longest = max((cell.interval or (0.0, cell.value or 0.0))[1] for cell in cells)
    if entropy := rows[0].records[0].dataset.entropy:
        ax.axvline(entropy.bits_per_dim, color=INK, linestyle=":", linewidth=1.3)
    ax.set_yticks([i + 0.05 for i in range(len(rows))], [short(row.name) for row in rows])
    ax.set_xlim(0, longest * 1.4)
    ax.grid(visible=False, axis="y")
    limit = "\ndotted: the entropy of the images' distribution, the limit" if entropy else ""
    ax.set(title=panel.title, xlabel=f"bits per dimension: test images, and pale: training images{limit}")
    return panel.missing({row.name for row in rows})


# Learning curves


def learning_curves(tables: Iterable[Table], looks: Looks | None = None) -> Figure:
    """Loss over images, a line a seed; a panel a model and phase, since losses of different models do not compare."""
    tables = list(tables)
    looks = looks or palette(tables)
    runs = {record.place: (row.name, record) for row in _rows(tables) for record in row.records[:MOST_LINES]}
    lines: dict[tuple[str, str], list[np.ndarray]] = {}
    missing: list[str] = []
    for name, record in runs.values():
        found, lost = _losses(record)
        for phase, points in found.items():
            lines.setdefault((name, phase), []).append(points)
        missing += _without_curve(record, bool(found), lost)
    with styled():
        figure, axes = panels_of(len(lines), (2.7, 2.0), columns=3)
        for ax, ((name, phase), some) in zip(axes, sorted(lines.items())):
            _draw_curves(ax, some, looks[name][0])
            several = sum(other == name for other, _ in lines) > 1
            words = f", {phase}" if several else ""
            ax.set(title=short(name, CURVE_TITLE - len(words)) + words, xlabel="images", ylabel="loss")
        text = "Training loss over images, one panel a model and phase; losses of different models do not compare."
        return captioned(figure, f"{text[:-1]}{_most(tables)}.", missing)


def _most(tables: Iterable[Table]) -> str:
    """That of rows with many runs the first ones' curves are drawn, where there are such rows."""
    return f" (of the first {MOST_LINES} seeds)" if any(len(row.records) > MOST_LINES for row in _rows(tables)) else ""


def _losses(record: Record) -> tuple[dict[str, np.ndarray], int]:
    """Images and loss (n, 2) along a run's training by phase, and how many points have no finite loss."""
    import numpy as np

    found: dict[str, Points] = {}
    lines = read_progress(record)
    for line in lines:
        if line.get("images") is not None and line.get("loss") is not None:
            found.setdefault(line.get("phase", "train"), []).append((line["images"], line["loss"]))
    lost = len(lines) - sum(map(len, found.values()))
    return {phase: np.array(points) for phase, points in found.items()}, lost


def _draw_curves(ax: Axes, lines: list[np.ndarray], colour: str) -> None:
    """A line a run."""
    from matplotlib.ticker import MaxNLocator

    _draw_lines(ax, lines, (colour, ""), len(lines) > CROWD, linewidth=1.2)
    ax.autoscale_view()
    ax.xaxis.set_major_locator(MaxNLocator(nbins=3))
    ax.xaxis.set_major_formatter(lambda value, position: f"{value / 1000:g}k" if value else "0")


def _without_curve(record: Record, drawn: bool, lost: int) -> Iterator[str]:
    """That the run has no curve, or that it breaks off or has gaps."""
    run = f"{record.job.label} seed {record.job.seed}"
    if drawn and record.status != "complete":
        yield f"{run} to its end ({record.status})"
    elif not drawn and not is_reference(record):
        yield f"{run} ({'no curve kept' if record.status == 'complete' else record.status})"
    if lost:
        yield f"{lost} points of {run} (no finite loss)"


# Samples


def sample_grids(tables: Iterable[Table], count: int = COUNT) -> Figure:
    """The first samples of every row side by side at one size: `real`, models as their tables rank them, `noise`."""
    pictures: list[tuple[str, np.ndarray]] = []
    missing = []
    for row in _rows(tables):
        images = next((found for record in row.records if (found := first_samples(record, count)) is not None), None)
        if images is None:
            missing.append(f"{row.name} (no samples)")
        else:
            pictures.append((row.name, sheet(images, math.isqrt(count))))
    with styled():
        figure, axes = panels_of(len(pictures), (2.4, 2.6), columns=4)
        for ax, (name, page) in zip(axes, pictures):
            ax.imshow(page, interpolation="nearest")
            ax.set(title=short(name))
            ax.set_axis_off()
        return captioned(figure, f"The first {count} samples of every model, not chosen.", missing)


ALL: dict[str, tuple[str, Callable[[list[Table], Looks], Figure]]] = {
    "fid-training-seconds": (
        "FID against training time",
        lambda tables, looks: fid_against_training(tables, looks=looks),
    ),
    "fid-training-flops": (
        "FID against training FLOPs",
        lambda tables, looks: fid_against_training(tables, "flops", looks),
    ),
    "fid-sampling": ("FID against sampling cost", fid_against_sampling),
    "likelihoods": ("Likelihoods", likelihoods),
    "bound-over-time": ("Terms of the bound", bound_over_time),
    "learning-curves": ("Learning curves", learning_curves),
}
"""The plots of a report: file name, heading, and what draws it from the full tables and the models' looks."""
