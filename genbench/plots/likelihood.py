"""Tables -> the figure of likelihoods: bits/dim above the limit, with exact values and bounds distinguished."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from genbench.plots.panels import BARS, MOST_BARS, Looks, palette, too_many
from genbench.plots.style import INK, captioned, most, panels_of, room_for_names, short, styled, write_above
from genbench.support.text import number
from genbench.tables.layout import Cell, Row, Table
from genbench.tables.limits import ELBO, TEST, TRAIN
from genbench.tables.panels import Panel, panels
from genbench.tables.wording import RELATIONS, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


HATCH = {"exact": "", "bound": "////", "estimate": "...."}


def likelihoods(tables: Iterable[Table], looks: Looks | None = None) -> Figure:
    """Bits per dimension: a bar per model on test images with its error, a thin one on training images.

    If the entropy of the images is known, bars begin at this limit, so that their length is the gap.
    """
    tables = list(tables)
    looks = looks or palette(tables)
    with styled():
        found = [(panel, _with_bits(panel)) for panel in panels(tables, TEST.metric)]
        shown, missing = most([(panel, rows) for panel, rows in found if rows])
        tallest = max((min(len(rows), MOST_BARS) for _, rows in shown), default=1)
        figure, axes = panels_of(len(shown), (4.9, 1.1 + 0.55 * tallest), 1, margins=(0.85, 0.2, 0.32, 0.75))
        for ax, (panel, rows) in zip(axes, shown):
            _draw_panel(ax, panel, rows[-MOST_BARS:], looks)
            missing += [*panel.missing({row.name for row in rows}), *too_many(len(rows), panel.title)]
        limits = any(rows[0].records[0].dataset.entropy for _, rows in shown)
        text = "Bits per dimension on test images, thin on training images; solid if exact, hatched if a bound"
        gap = "; bars begin at the entropy of the images' distribution (dotted), the limit" if limits else ""
        text = f"{text}{gap}; lower is better. ≤ marks upper bounds, ~ estimates. {BARS}"
        return captioned(figure, text, missing)


def _with_bits(panel: Panel) -> list[Row]:
    """The rows that have a likelihood, the worst first, since bars are drawn upwards."""
    rows = [row for row in panel.rows if panel.cell(row).value is not None]
    return sorted(rows, key=lambda row: (row.n_ok < row.n, panel.cell(row).value or 0.0), reverse=True)


def _draw_panel(ax: Axes, panel: Panel, rows: list[Row], looks: Looks) -> None:
    entropy = rows[0].records[0].dataset.entropy
    limit = entropy.bits_per_dim if entropy else 0.0
    for i, row in enumerate(rows):
        _draw_row(ax, i, row, looks[row.name][0], limit)
    cells = [panel.cell(row) for row in rows]
    elbos = [row.cells.get(ELBO, Cell()).value or 0.0 for row in rows]
    longest = max([*elbos, *((cell.interval or (0.0, cell.value or 0.0))[1] for cell in cells)])
    if entropy:
        ax.axvline(limit, color=INK, linestyle=":", linewidth=1.3)
    names = [short(row.name) for row in rows]
    ax.set_yticks(range(len(rows)), names)
    room_for_names(ax, names)
    lowest = min([limit, *(cell.value or 0.0 for cell in cells)]) if limit else 0.0
    ax.set_xlim(lowest - 0.06 * (longest - limit) * bool(limit), longest + 0.06 * (longest - lowest))
    ax.set_ylim(-0.5, len(rows) - 0.25)
    ax.grid(visible=False, axis="y")
    more = ["dotted: the limit, from which bars begin"] if limit else []
    more += ["faint: on to the looser ELBO"] if any(elbos) else []
    words = ["bits per dimension; solid: exact, hatched: a bound", "; ".join(["thin: on training images", *more])]
    ax.set(title=panel.title)
    ax.set_xlabel("\n".join(words), loc="left")


def _draw_row(ax: Axes, i: int, row: Row, colour: str, limit: float) -> None:
    """The bars of one model at height `i`, its interval, and its value in words."""
    cell, place = row.cells[TEST], i + 0.03
    value = cell.value or 0.0
    style: Any = {
        "height": 0.34,
        "color": colour,
        "edgecolor": "white",
        "linewidth": 0,
        "hatch": HATCH.get(cell.kind, ""),
    }
    ax.barh(place, value - limit, left=limit, **style)
    if trained := row.cells.get(TRAIN, Cell()).value:
        ax.barh(i - 0.22, trained - limit, left=limit, height=0.14, color=colour, alpha=0.45, linewidth=0)
    elbo = row.cells.get(ELBO, Cell()).value or value
    if elbo > value:
        ax.barh(place, elbo - value, left=value, height=0.34, color=colour, alpha=0.2, linewidth=0)
    if cell.interval:
        ax.hlines([place], [cell.interval[0]], [cell.interval[1]], colors=INK, linewidth=1.2)
    gap = f", gap {RELATIONS[cell.relation]}{number(value - limit, 'bits')}" if limit else ""
    words = value_text(cell, "bits") + gap
    write_above(ax, i + 0.21, words)
