"""The figures of a dataset or of a model, written as SVG for light and for dark pages, and as PNG."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from genbench import plots
from genbench.layout import Table
from genbench.panels import Looks
from genbench.store import put
from genbench.style import INK, png, svg

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


def write_figures(
    tables: list[Table], looks: Looks, sections: Collection[str], slug: str, folder: Path, formats: tuple[str, ...]
) -> dict[str, Figure]:
    """The figures of some sections that have anything to show, by name: as SVG with dark ink and with light ink.

    Where `formats` has it, as PNG too, which takes as long again.
    """
    found = {}
    for name, plot in plots.ALL.items():
        if plot.section not in sections:
            continue
        figure = plot.draw(tables, looks)
        if not any(axes.has_data() for axes in figure.axes):
            continue
        path = f"plots/{slug}-{name}"
        text = svg(figure)
        put(folder / f"{path}.svg", text)
        put(folder / f"{path}-dark.svg", text.replace(INK, NIGHT_INK))
        if "png" in formats:
            put(folder / f"{path}.png", png(figure))
        words = str(figure.get_label())
        shown = words.partition(" Not drawn:")[0]
        found[name] = Figure(name, plot.title, plot.section, shown, words, path, formats)
    return found
