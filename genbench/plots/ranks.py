"""Tables -> the figure of ranks: for each metric a line per model, from its published rank to its measured one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from genbench.plots.panels import Looks, palette
from genbench.plots.style import INK, captioned, most, panels_of, short, styled
from genbench.tables.layout import Column, Row, Table
from genbench.tables.orders import Order, left_out, orders
from genbench.tables.pairs import counterparts, paired_tables, pairs_of
from genbench.tables.panels import title_of
from genbench.tables.wording import NO_BREAK, metric_words, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

APART = 2 * NO_BREAK
LONGEST = 22
"""Letters of a name at the end of a line."""
WIDE, MARGINS = 6.4, (2.3, 2.3, 0.62, 0.1)
"""Inches of a panel, and of what is left, right, above and below of it for names and a title."""
TITLE = (8 - 72 * MARGINS[0], 25)
"""Where a title begins, in points from the upper left corner of the axes."""


def ranks(tables: Iterable[Table], looks: Looks | None = None) -> Figure:
    """A panel for each block and metric: models by published rank on the left, by measured rank on the right.

    Only those with both numbers, so that the ranks of a side are among the same models.
    """
    tables = list(tables)
    looks = looks or palette(tables)
    with styled():
        found = [(table, order) for table in tables if not table.published for order in _orders(table)]
        shown, missing = most(found)
        tallest = max((len(order.rows) for _, order in shown), default=1)
        figure, axes = panels_of(len(shown), (WIDE, 0.8 + 0.27 * tallest), 1, MARGINS)
        for ax, (table, order) in zip(axes, shown):
            _draw(ax, table, order, looks)
        missing += [words for table in tables if not table.published for words in _missing(table)]
        text = (
            "Ranks among the models that have both numbers: as published on the left, as measured on the right. What "
            "keeps the two apart is said below the table. tau: Kendall's tau-b, 1 for the same order."
        )
        return captioned(figure, text, missing)


def _orders(table: Table) -> Iterator[Order]:
    for name in _names(table):
        yield from orders(pairs_of(table.rows, name), counterparts(table.columns, name))


def _names(table: Table) -> list[str]:
    return paired_tables(row.records[0] for row in table.rows if row.kind == "model")


def _missing(table: Table) -> Iterator[str]:
    """The paired models that are in no order, and why."""
    for name in _names(table):
        pairs, columns = pairs_of(table.rows, name), counterparts(table.columns, name)
        yield from left_out(pairs, columns)


def _draw(ax: Axes, table: Table, order: Order, looks: Looks) -> None:
    """The lines of one order, with names, ranks and numbers at both ends; models of one rank stand below each other."""
    there, here = map(_places, order.ranks)
    for (printed, row), (left, first), (right, second) in zip(order.rows, there, here):
        colour, marker = looks[row.name]
        ax.plot([0, 1], [left, right], color=colour, marker=marker, markersize=6, linewidth=1.8, clip_on=False)
        words = APART.join([short(printed.name, LONGEST), _number(printed, order.printed), first])
        ax.text(-0.05, left, words, ha="right", va="center", fontsize=9)
        words = APART.join([second, _number(row, order.measured), short(row.name, LONGEST)])
        ax.text(1.05, right, words, ha="left", va="center", fontsize=9)
    tau = "" if order.tau is None else f", tau {order.tau:.2f}"
    title = f"{title_of(table, order.block)}: {metric_words(order.printed)}{tau}"
    place: Any = {"xy": (0, 1), "xycoords": "axes fraction", "xytext": TITLE, "textcoords": "offset points"}
    ax.annotate(title, fontweight="bold", **place)
    ax.set_xlim(0, 1)
    ax.set_ylim(len(order.rows) - 0.4, -0.6)
    ax.set_yticks([])
    ax.set_xticks([0, 1], ["paper", "here"], color=INK)
    ax.xaxis.tick_top()
    ax.grid(visible=False)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)


def _number(row: Row, column: Column) -> str:
    return value_text(row.cells[column.key], column.styles[0]).partition(" ±")[0]


def _places(ranks: list[int]) -> list[tuple[int, str]]:
    """The place from the top of each of one side's models, and its rank as `3` or, if shared, `3=`."""
    downwards = sorted(range(len(ranks)), key=lambda i: (ranks[i], i))
    return [(downwards.index(i), f"{rank}{'=' * (ranks.count(rank) > 1)}") for i, rank in enumerate(ranks)]
