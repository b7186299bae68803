"""Tables -> figures of quality against cost, with the Pareto front, and of how cost splits by phase."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from genbench.plots.panels import (
    BARS,
    CROWD,
    MOST_BARS,
    MOST_LINES,
    Looks,
    Points,
    first_seeds,
    palette,
    too_many,
    unranked_words,
)  # fmt: skip
from genbench.plots.style import (
    REFERENCE_LINES,
    captioned,
    draw_lines,
    legend,
    most,
    panels_of,
    room_for_names,
    scale,
    short,
    styled,
    write_above,
)
from genbench.records.record import CurvePoint, Record
from genbench.records.record_files import curve_of
from genbench.support.text import number
from genbench.tables.layout import Cell, Column, Row, Table
from genbench.tables.panels import Panel, blocks_of, panels, title_of, unfinished
from genbench.tables.swept import Sweep, sweeps_of, training_of
from genbench.tables.wording import COPYING, NO_BREAK, UNEQUAL, heading_text, row_marks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMED = 20
"""Models in a legend."""
FRONT = "#5c5c69"
FRONTS = "Pareto front: models that no other undercuts in both, none that failed or copies among them."
DIFFERENT = 1.1
"""The factor between costs that are not about the same."""
FAR = 20.0
"""The factor above all models beyond which the line of a reference row is only told."""
SHADES = (1.0, 0.55, 0.3, 0.15)
"""Opacities of a model's phases, in turn."""
Cost = Callable[[Record], float | None]
Spent = Callable[[CurvePoint], float | None]
Lines = Callable[[Panel], tuple[dict[str, list[Points]], list[str], Mapping[str, Sweep]]]
"""Of a panel: by row, the points of each thin line; what is missing from them; and by row the sweep it is in, if any.

Rows of one sweep have one look and one name.
"""


def fid_against_training(
    tables: Iterable[Table], unit: Literal["device_seconds", "flops"] = "device_seconds", looks: Looks | None = None
) -> Figure:
    """FID over what training cost: a mark per model (its mean; small: its seeds), `real` and `noise` as lines.

    Runs that kept a curve lead up to their mark in a thin line, one per seed.
    """
    label = {"device_seconds": "device-seconds", "flops": "FLOPs"}[unit]
    text = f"Lower and further left is better. {FRONTS} {BARS}"
    tables = list(tables)
    return _against(
        tables, f"training, {label}", text, lambda r: getattr(r.cost.train, unit, None) or None, looks,
        lambda panel: (*curves(panel, lambda point: getattr(point, unit) or None), {}),
        f" Thin lines: the same runs at earlier shares of their budgets, one per seed{first_seeds(tables)}.",
    )  # fmt: skip


def fid_against_sampling(tables: Iterable[Table], looks: Looks | None = None) -> Figure:
    """FID over the seconds that 1,000 samples take."""
    text = f"Lower and further left is better. {FRONTS} {BARS}"
    return _against(list(tables), "sampling, seconds per 1,000 images", text, _seconds_per_1000, looks)


def fid_against_evaluations(tables: Iterable[Table], looks: Looks | None = None) -> Figure:
    """FID over the network evaluations that a sample takes; rows that differ in one number alone have one look."""
    tables = list(tables)
    text = f"Lower and further left is better. {FRONTS} {BARS}"
    about = f" Thin lines: rows of one training that differ in one number, one line per seed{first_seeds(tables)}."
    label = "network evaluations per sample"
    return _against(tables, label, text, _evaluations, looks, lines_of_sweeps, about)


def _evaluations(record: Record) -> float | None:
    return record.cost.sample.nfe if record.cost.sample else None


def lines_of_sweeps(panel: Panel) -> tuple[dict[str, list[Points]], list[str], dict[str, Sweep]]:
    """By the first of its rows, a line through the (evaluations, value) of each sweep and training; see `Lines`.

    Of the first MOST_LINES runs of a row, by seed. A row of several sweeps counts to the first.
    """
    lines: dict[str, list[Points]] = {}
    sweeps: dict[str, Sweep] = {}
    for sweep in sweeps_of(panel.rows):
        found: dict[str, Points] = {}
        for row in sweep.rows:
            for record, value in list(zip(row.records, panel.cell(row).values))[:MOST_LINES]:
                evaluations = _evaluations(record)
                if value is not None and evaluations is not None:
                    found.setdefault(training_of(record), []).append((evaluations, value))
        paths = [sorted(points) for points in found.values() if len({x for x, _ in points}) > 1]
        if paths:
            lines.setdefault(sweep.rows[0].name, []).extend(paths)
            sweeps = {row.name: sweep for row in sweep.rows} | sweeps
    return lines, [], sweeps


def _seconds_per_1000(record: Record) -> float | None:
    sample = record.cost.sample
    return 1000 * sample.seconds / sample.images if sample and sample.images else None


def _against(
    tables: list[Table], label: str, text: str, cost: Cost, looks: Looks | None,
    lines: Lines | None = None, about_lines: str = "",
) -> Figure:  # fmt: skip
    """FID over a cost; `lines` are drawn thin, each in the look of a row, and `about_lines` is said of them."""
    looks = looks or palette(tables)
    with styled():
        shown, more = most(panels(tables, "fid_test"))
        figure, axes = panels_of(len(shown), (4.9, 3.4), columns=1)
        missing, lined = more, False
        for ax, panel in zip(axes, shown):
            paths, gaps, sweeps = lines(panel) if lines else ({}, [], {})
            shared = {name: looks[sweep.rows[0].name] for name, sweep in sweeps.items()}
            missing += [*_draw_against(ax, panel, label, cost, {**looks, **shared}, paths, sweeps), *gaps]
            lined = lined or bool(paths or gaps)
        if lined:
            text += about_lines
        copying = any(row.copying for panel in shown for row in panel.rows)
        text += f" {COPYING}: its samples are copies of the dataset's images." if copying else ""
        unequal = any(row.unequal for panel in shown for row in panel.rows)
        text += f" {UNEQUAL}: its machine was not its own, or was stopped; see the table." if unequal else ""
        text += unranked_words([panel.table for panel in shown], "fid_test")
        return captioned(figure, text, missing)


def _draw_against(
    ax: Axes, panel: Panel, label: str, cost: Cost, looks: Looks, curves: Mapping[str, list[Points]],
    sweeps: Mapping[str, Sweep],
) -> list[str]:  # fmt: skip
    """Draw one panel and say what is missing from it."""
    points = {row.name: points_of(row, panel.cell(row), cost) for row in panel.rows}
    crowded = sum(map(len, curves.values())) > CROWD
    for name, paths in curves.items():
        draw_lines(ax, paths, looks[name], crowded, linewidth=1.0, alpha=0.7)
    named: dict[str, Any] = {}
    shown = [row for row in panel.rows if points[row.name]]
    for row in shown:
        mark = draw_mark(ax, points[row.name], *looks[row.name], panel.cell(row))
        named.setdefault(_words(panel, row, sweeps.get(row.name)), mark)
    front = pareto([mean_of(points[row.name]) for row in shown if panel.contends(row)])
    words, handles = list(named)[:MOST_NAMED], list(named.values())[:MOST_NAMED]
    if len(named) > MOST_NAMED:
        handles.append(ax.plot([], [], linestyle="")[0])
        words.append(f"and {len(named) - MOST_NAMED} more, see the table")
    found = {kind: cell.value for kind in REFERENCE_LINES if (cell := panel.reference(kind)) is not None}
    lines = {kind: value for kind, value in found.items() if value is not None}
    joined = [point for paths in curves.values() for path in paths for point in path]
    drawn = [*(point for row in shown for point in points[row.name]), *joined]
    top = FAR * max((y for _, y in drawn), default=math.inf)
    for kind, value in lines.items():
        dash, grey = REFERENCE_LINES[kind]
        handles.append(ax.axhline(value, linestyle=dash, color=grey, linewidth=1.3))
        words.append(f"{kind}  {number(value, 'fid')}{' (above)' if value > top else ''}")
    wide = 1.0 if joined else 5.0
    scale(ax, "x", [x for x, _ in drawn], wide)
    heights = [*(y for _, y in drawn), *(value for value in lines.values() if value <= top)]
    ends = [end for row in shown for end in panel.cell(row).interval or ()]
    scale(ax, "y", heights + [end for end in ends if end > min(heights) / 5], wide)
    if front:
        handles.append(_draw_front(ax, front))
        words.append("Pareto front")
    ax.set(title=panel.title, xlabel=label, ylabel=stacked(heading_text(panel.column)))
    legend(ax, handles, words)
    return panel.missing({row.name for row in shown})


def _words(panel: Panel, row: Row, sweep: Sweep | None) -> str:
    """What the legend says of a row, or of the sweep that it is in."""
    if sweep is not None:
        values = [value for each in sweep.rows if (value := panel.cell(each).value) is not None] or [0.0]
        marks = "".join(dict.fromkeys(map(row_marks, sweep.rows)))
        return f"{short(sweep.name)}{marks}  {number(min(values), 'fid')} to {number(max(values), 'fid')}"
    part = f" ({row.n_ok}/{row.n} runs)" if row.n_ok < row.n else ""
    return f"{short(row.name)}{row_marks(row)}  {number(panel.cell(row).value or 0.0, 'fid')}{part}"


def pareto(points: Points) -> Points:
    """Those of (cost, value) that none undercuts in both, by cost; none if all cost about the same."""
    front: Points = []
    if not points or max(points)[0] < DIFFERENT * min(points)[0]:
        return []
    for cost, value in sorted(points):
        if not front or value < front[-1][1]:
            front.append((cost, value))
    return front


def _draw_front(ax: Axes, front: Points) -> Any:
    """Steps through the front, up from the cheapest and out to the right: what lies above is undercut in both."""
    (right, top) = (ax.get_xlim()[1], ax.get_ylim()[1])
    xs, ys = [front[0][0], *(x for x, _ in front), right], [top, *(y for _, y in front), front[-1][1]]
    style: Any = {"color": FRONT, "linestyle": "-.", "linewidth": 1.1, "zorder": 1.5, "drawstyle": "steps-post"}
    return ax.plot(xs, ys, scalex=False, scaley=False, **style)[0]


def mean_of(points: Points) -> tuple[float, float]:
    """The mean cost and the mean value."""
    xs, ys = zip(*points)
    return math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)


def stacked(heading: str) -> str:
    """The metric on one line, its extractor on the next."""
    metric, _, extractor = heading.replace(NO_BREAK, " ").partition(" (")
    return short(metric) + (f"\n({short(extractor)}" if extractor else "")


def curves(panel: Panel, spent: Spent) -> tuple[dict[str, list[Points]], list[str]]:
    """By row (cost, value) along each finished run's curve, if it was measured under the panel's protocol.

    Of the first MOST_LINES runs, by seed. Then which points of the curves have no number, and why.
    """
    paths: dict[str, list[Points]] = {}
    told: list[str] = []
    for row in panel.rows:
        found, gaps = curves_of_row(row, panel.column, spent)
        paths |= {row.name: found} if found else {}
        told += gaps
    return paths, told


def curves_of_row(row: Row, column: Column, spent: Spent) -> tuple[list[Points], list[str]]:
    """The same of one row."""
    paths: list[Points] = []
    told: dict[tuple[str, str], list[str]] = {}
    for record in row.records[:MOST_LINES]:
        curve = curve_of(record)
        path = [
            (x, m.value)
            for point in curve
            for m in point.measurements
            if m.metric == column.metric and m.protocol == row.cells[column.key].protocol
            if (x := spent(point)) is not None and m.value is not None
        ]
        if record.status == "complete" and len(path) > 1:
            paths.append(path)
        run = f"{row.name}'s curve" + (f" of seed {record.job.seed}" if row.n > 1 else "")
        for point in curve:
            if point.status != "ok":
                told.setdefault((run, point.note), []).append(f"{100 * point.share:.2g} %")
    return paths, [f"{run} at {', '.join(shares)} of the budget ({note})" for (run, note), shares in told.items()]


def points_of(row: Row, cell: Cell, cost: Cost) -> Points:
    """(cost, value) of each run that has both."""
    pairs = [(cost(record), value) for record, value in zip(row.records, cell.values)]
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def draw_mark(ax: Axes, points: Points, colour: str, marker: str, cell: Cell) -> Any:
    """A small mark per run, if there are several, and a large one with the interval at their mean."""
    xs, ys = zip(*points)
    look: Any = {"color": colour, "marker": marker, "linestyle": ""}
    if len(points) > 1:
        ax.plot(xs, ys, markersize=4.7, alpha=0.6, markeredgewidth=0, **look)
    x, y = mean_of(points)
    (mark,) = ax.plot([x], [y], markersize=9, markeredgecolor="white", markeredgewidth=0.8, zorder=3, **look)
    if cell.value is not None and cell.interval is not None:
        ax.vlines([x], *cell.interval, colors=colour, linewidth=1.2)
    return mark


# Cost by phase


def cost_by_phase(tables: Iterable[Table], looks: Looks | None = None) -> Figure:
    """Device-seconds of training, a bar per model, its phases in shades of the model's colour; means over its runs."""
    tables = list(tables)
    looks = looks or palette(tables)
    with styled():
        blocks = [(t, block, _split(t, block)) for t in tables if not t.published for block in blocks_of(t)]
        shown, missing = most([panel for panel in blocks if panel[2]])
        tallest = max((min(len(split), MOST_BARS) for _, _, split in shown), default=1)
        figure, axes = panels_of(len(shown), (4.9, 1.0 + 0.5 * tallest), columns=1)
        for ax, (table, block, split) in zip(axes, shown):
            _draw_phases(ax, dict(list(split.items())[:MOST_BARS]), looks)
            ax.set(title=title_of(table, block), xlabel="training, device-seconds")
            missing += too_many(len(split), title_of(table, block))
            rows = [row for row in table.rows if row.kind == "model" and row.block == block]
            missing += [f"{row.name} (no cost by phase)" for row in rows if row.name not in split and row.n_ok]
            missing += unfinished(rows)
        text = "Device-seconds of training and how they split into phases, as means over the runs that finished."
        return captioned(figure, text, missing)


def _split(table: Table, block: str) -> dict[str, dict[str, float]]:
    """By model and phase the mean device-seconds over its finished runs that have them, the cheapest model first."""
    found = {row.name: _phases(row) for row in table.rows if row.kind == "model" and row.block == block}
    return dict(
        sorted(((name, split) for name, split in found.items() if split), key=lambda pair: sum(pair[1].values()))
    )


def _phases(row: Row) -> dict[str, float]:
    told = [r.cost.train.phases for r in row.records if r.status == "complete" and r.cost.train and r.cost.train.phases]
    names = dict.fromkeys(name for phases in told for name in phases)

    def seconds(name: str) -> float:
        costs = [phases[name] for phases in told if name in phases]
        return math.fsum(cost.spent for cost in costs) / len(told)

    return {name: seconds(name) for name in names}


def _draw_phases(ax: Axes, split: Mapping[str, Mapping[str, float]], looks: Looks) -> None:
    """A bar per model from the bottom up, with the share of each phase if there are several."""
    for i, (name, phases) in enumerate(split.items()):
        left, total = 0.0, sum(phases.values())
        for k, seconds in enumerate(phases.values()):
            shade = SHADES[k % len(SHADES)]
            ax.barh(i, seconds, left=left, height=0.45, color=looks[name][0], alpha=shade, linewidth=0)
            left += seconds
        shares = [f"{short(phase)} {100 * seconds / total:.0f} %" for phase, seconds in phases.items() if total]
        words = f"{number(total, 'seconds')}" + (f": {', '.join(shares)}" if len(phases) > 1 else "")
        write_above(ax, i + 0.24, words)
    names = [short(name) for name in split]
    ax.set_yticks(range(len(split)), names)
    room_for_names(ax, names)
    ax.set_ylim(-0.4, len(names) - 0.3)
    ax.grid(visible=False, axis="y")
