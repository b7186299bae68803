"""The figures of a dataset or of a model, written as SVG for light and for dark pages, and as PNG."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from genbench import plots
from genbench.plots.panels import Looks
from genbench.plots.style import INK, png, svg
from genbench.support.store import put
from genbench.tables.layout import Table

NIGHT_INK = "#e4e4ea"


@dataclass(frozen=True)
class Figure:
    """A plot: its name, heading and section, what it shows, also with what is missing, and its path without suffix.

    `formats` are the files that a reader may save.
    """

    name: str
    title: str
    section: str
    text: str
    alt: str
    path: str
    formats: tuple[str, ...]


def write_figure(
    name: str, tables: list[Table], looks: Looks, slug: str, folder: Path, formats: tuple[str, ...]
) -> Figure | None:
    """The figure of this name, as SVG with dark ink and with light ink; None if it has nothing to show.

    As PNG too if `formats` has it, which takes as long again. Raises CorruptData if it cannot read a run.
    """
    plot = plots.ALL[name]
    figure = plot.draw(tables, looks)
    if not any(axes.has_data() for axes in figure.axes):
        return None
    path = f"plots/{slug}-{name}"
    text = svg(figure)
    put(folder / f"{path}.svg", text)
    put(folder / f"{path}-dark.svg", text.replace(INK, NIGHT_INK))
    if "png" in formats:
        put(folder / f"{path}.png", png(figure))
    words = str(figure.get_label())
    shown = words.partition(" Not drawn:")[0]
    return Figure(name, plot.title, plot.section, shown, words, path, formats)
