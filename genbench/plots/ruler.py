"""Tables -> the figure of the ladders: how each metric scores real images that are spoilt more and more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from genbench.plots.style import (
    MARGINS,
    REFERENCE_LINES,
    Look,
    captioned,
    looks_of,
    most,
    panels_of,
    scale,
    shared_legend,
    short,
    styled,
    tick,
)
from genbench.records.ruler import Ruler, Rung
from genbench.tables.layout import Column, Table
from genbench.tables.ruler import NOISE, REAL
from genbench.tables.verdicts import rulers_of
from genbench.tables.wording import NO_BREAK, heading_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 24
"""Panels: a metric in one extractor's features each."""
COLUMNS, PANEL = 3, (3.3, 2.7)
SPAN = 100
"""The factor between positive values beyond which the axis is logarithmic around 0."""
REFUSED = "#d55e00"
Ladders = Mapping[str, list[Rung]]


def ladders(tables: Iterable[Table]) -> Figure:
    """Values over rungs in rising strength: a line per control, real images and noise as lines across.

    A panel for each column of the tables whose ruler has rungs.
    """
    found = [
        (column, ruler)
        for table in tables
        if not table.published
        for extractor, ruler in rulers_of(record for row in table.rows for record in row.records).items()
        for column in table.columns
        if column.extractor == extractor and any(column.metric in rung.values for rung in ruler.rungs)
    ]
    shown, missing = most(found, MOST)
    looks = looks_of(control for _, ruler in shown for control in _controls(ruler))
    with styled():
        figure, axes = panels_of(len(shown), PANEL, COLUMNS, margins=(0.75, 0.15, 0.32, MARGINS[3]))
        for ax, (column, ruler) in zip(axes, shown):
            _draw(ax, column, ruler, looks)
            ax.set(xlabel="rung, from mild to strong")
        if shown:
            shared_legend(axes, COLUMNS, *_key(looks))
        refused = [column.heading for column, _ in shown if column.unranked]
        text = (
            "Held-out real images after a change, stronger from rung to rung, scored like samples. Bars: 95 % "
            "intervals. A metric may rank if it finds noise worst, and worse from rung to rung what it ought to notice."
        )
        text += f" Not ranked (†): {', '.join(refused)}." if refused else ""
        return captioned(figure, text, missing)


def _controls(ruler: Ruler) -> Ladders:
    """The rungs of each control, apart from real images and noise, in the order in which they were made."""
    found: dict[str, list[Rung]] = {}
    for rung in ruler.rungs:
        if rung.control not in (REAL, NOISE):
            found.setdefault(rung.control, []).append(rung)
    return found


def _draw(ax: Axes, column: Column, ruler: Ruler, looks: Mapping[str, Look]) -> None:
    from matplotlib.ticker import MaxNLocator

    metric, drawn = column.metric, []
    for control, rungs in _controls(ruler).items():
        points = [(i, rung) for i, rung in enumerate(rungs, 1) if metric in rung.values]
        if points:
            colour, marker = looks[control]
            values = [rung.values[metric] for _, rung in points]
            errors = [1.96 * rung.errors.get(metric, 0.0) for _, rung in points]
            style: Any = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.2, "elinewidth": 1.0}
            ax.errorbar([i for i, _ in points], values, yerr=errors, **style)
            drawn += values
    for kind, control in (("real", REAL), ("noise", NOISE)):
        dash, grey = REFERENCE_LINES[kind]
        for rung in [rung for rung in ruler.rungs if rung.control == control and metric in rung.values][:1]:
            value, error = rung.values[metric], 1.96 * rung.errors.get(metric, 0.0)
            ax.axhline(value, linestyle=dash, color=grey, linewidth=1.3)
            ax.axhspan(value - error, value + error, color=grey, alpha=0.2, linewidth=0)
            drawn.append(value)
    _scale(ax, drawn)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlim(0.6, max((len(rungs) for rungs in _controls(ruler).values()), default=1) + 0.4)
    heading = heading_text(column).partition(" (")[0].replace(NO_BREAK, " ")
    ax.set_title(short(heading))
    if column.unranked:
        ax.set_title(short(heading), color=REFUSED)
        for spine in ax.spines.values():
            spine.set(visible=True, color=REFUSED, linestyle="--")


def _scale(ax: Axes, values: list[float]) -> None:
    """Logarithmic if the values span much, also on both sides of 0, where an unbiased distance of equals lies."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    positive = [value for value in values if value > 0]
    if not positive or min(values) > 0 or max(values) < SPAN * min(positive):
        scale(ax, "y", values)
        return
    least = max(min(positive), -min(values))
    powers = range(math.ceil(math.log10(least)), math.floor(math.log10(max(values))) + 1)
    ax.set_yscale("symlog", linthresh=least)
    ax.set_yticks([0.0, *(10.0**power for power in powers)])
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(tick))


def _key(looks: Mapping[str, Look]) -> tuple[list[Any], list[str]]:
    """What the lines of all panels mean."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, marker=marker, markersize=4) for colour, marker in looks.values()]
    for kind in ("real", "noise"):
        dash, grey = REFERENCE_LINES[kind]
        handles.append(Line2D([], [], linestyle=dash, color=grey, linewidth=1.3))
    return handles, [*map(short, looks), "real images", "uniform noise"]
