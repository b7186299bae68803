"""Tables -> learning curves from the run folders' progress.jsonl, with bands over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from genbench.plots.cost import curves_of_row
from genbench.plots.panels import CROWD, MOST_LINES, Looks, Points, first_seeds, palette, unranked_words
from genbench.plots.style import captioned, draw_lines, panels_of, scale, short, styled, tick
from genbench.records.point import losses_of
from genbench.records.record import CurvePoint, Record
from genbench.records.run_folder import read_progress
from genbench.tables.groups import identity, is_reference
from genbench.tables.layout import Row, Table
from genbench.tables.panels import among, unfinished

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = 30
MOST_CURVES = 12
"""Panels of a figure, which is one per model, before no further row is drawn."""
MOST_LOSSES = 8
"""Of one phase; the log has the others."""
LONGEST_NAME = 18
"""Letters beside an axis."""
MOST_POINTS = 200
"""Of a line: more could not be distinguished."""
STEEP, LOW = 20, 0.05
"""The factor by which the highest loss exceeds all but this share of them, from which on the axis is logarithmic."""


@dataclass
class Curves:
    """What one panel shows of a row: its FID in one extractor's features, or a loss of one phase, over images."""

    row: Row
    what: Literal["FID", "loss"]
    part: str
    name: str
    lines: list[np.ndarray]

    @property
    def title(self) -> tuple[str, str]:
        return self.row.dataset, self.row.name


def learning_curves(tables: Iterable[Table], looks: Looks | None = None) -> Figure:
    """All losses, and FID if it was scored along the way, over images: a line per seed and a band over several.

    A panel per row, phase and loss: losses of different models do not compare, nor do the parts of one in scale.
    """
    tables = list(tables)
    looks = looks or palette(tables)
    shown: list[Curves] = []
    missing: list[str] = []
    families = _families(tables)
    for done, family in enumerate(families):
        if len(shown) >= MOST_CURVES:
            missing.insert(0, f"{len(families) - done} more rows of the tables")
            missing += unfinished(row for later in families[done:] for _, row in later[:1])
            break
        shown += _scores(family)
        losses, lost = _losses(family)
        shown += losses
        missing += lost
    with styled():
        figure, axes = panels_of(len(shown), (3.2, 2.1), 3, margins=(0.75, 0.15, 0.3, 0.5))
        for ax, panel in zip(axes, shown):
            _draw_curves(ax, panel.lines, looks[panel.row.name][0])
            ax.set(title=_title(panel, shown), xlabel="images", ylabel=short(panel.name, LONGEST_NAME))
        text = "Training losses over images: loss, which is minimised, and the model's others"
        text += "; those of different models do not compare"
        band = any(_several(panel.lines) for panel in shown)
        text += ". Band: from the lowest to the highest seed; bold: their mean" if band else ""
        scored = any(panel.what == "FID" for panel in shown)
        unranked = unranked_words(tables, "fid_test") if scored else ""
        return captioned(figure, f"{text}{first_seeds(tables)}.{unranked}", missing)


def _families(tables: list[Table]) -> list[list[tuple[Table, Row]]]:
    """The rows of models, those of one model together: what is scored under two protocols was trained once."""
    found: dict[tuple[Any, ...], list[tuple[Table, Row]]] = {}
    for table in tables:
        for row in table.rows:
            if row.kind == "model":
                found.setdefault(identity(row.records[0]), []).append((table, row))
    return list(found.values())


def _scores(family: list[tuple[Table, Row]]) -> list[Curves]:
    """FID against test images along the trainings that were scored on the way, by extractor, of the first protocol."""
    import numpy as np

    columns = [(row, column) for table, row in family for column in table.columns if column.metric == "fid_test"]
    once = {column.extractor: (row, column) for row, column in reversed(columns)}
    found = [
        Curves(row, "FID", column.extractor, "FID test", [np.array(path) for path in paths])
        for row, column in once.values()
        for paths in [curves_of_row(row, column, _spent)[0]]
    ]
    return [panel for panel in found if panel.lines]


def _spent(point: CurvePoint) -> float | None:
    return point.images


def _losses(family: list[tuple[Table, Row]]) -> tuple[list[Curves], list[str]]:
    """The losses of the first runs of one model by phase and name, and what is missing."""
    row = family[0][1]
    records = {record.place: record for _, row in family for record in row.records}
    phases: dict[str, dict[str, list[np.ndarray]]] = {}
    missing: list[str] = []
    for record in list(records.values())[:MOST_LINES]:
        found, lost = _losses_of(record)
        for (phase, name), points in found.items():
            phases.setdefault(phase, {"loss": []}).setdefault(name, []).append(points)
        missing += _without_curve(record, bool(found), lost)
    panels = []
    for phase, losses in sorted(phases.items()):
        told = [(name, lines) for name, lines in losses.items() if lines]
        panels += [Curves(row, "loss", phase, name, lines) for name, lines in told[:MOST_LOSSES]]
        if len(told) > MOST_LOSSES:
            missing.append(f"{len(told) - MOST_LOSSES} more losses of {row.name}, {phase}")
    return panels, missing


def _several(lines: list[np.ndarray]) -> bool:
    return len(lines) > 1


def _title(panel: Curves, shown: list[Curves]) -> str:
    """What distinguishes a panel: its model, its phase or extractor, and its dataset if there are several."""
    parts = {other.part for other in shown if (other.title, other.what) == (panel.title, panel.what)}
    words = f", {panel.part}" if len(parts) > 1 else ""
    words += among(panel.row, (other.row for other in shown))
    words += f", {panel.row.dataset}" if any(other.row.dataset != panel.row.dataset for other in shown) else ""
    words = short(words, TITLE - 6)
    return short(panel.row.name, TITLE - len(words)) + words


def _losses_of(record: Record) -> tuple[dict[tuple[str, str], np.ndarray], int]:
    """Images and a loss (n, 2) along a run's training by phase and name, and how many points have no finite `loss`."""
    import numpy as np

    found: dict[tuple[str, str], Points] = {}
    lines = read_progress(record)
    for line in (line for line in lines if line.get("images") is not None):
        for name, value in losses_of(line).items():
            found.setdefault((line.get("phase", "train"), name), []).append((line["images"], value))
    lost = len(lines) - sum(len(points) for (_, name), points in found.items() if name == "loss")
    return {which: np.array(points) for which, points in found.items()}, lost


def _draw_curves(ax: Axes, lines: list[np.ndarray], colour: str) -> None:
    """A line per run; of several runs thin ones, and a band with their mean as far as all of them go."""
    import numpy as np
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    look = (colour, "")
    style: Any = {"linewidth": 0.7, "alpha": 0.5} if _several(lines) else {"linewidth": 1.3}
    draw_lines(ax, [line[:: 1 + len(line) // MOST_POINTS] for line in lines], look, len(lines) > CROWD, **style)
    if _several(lines) and len(xs := _common(lines)):
        low, mean, high = _spread(lines, xs)
        ax.fill_between(xs, low, high, color=colour, alpha=0.25, linewidth=0)
        ax.plot(xs, mean, color=colour, linewidth=1.6)
    ax.autoscale_view()
    values = np.concatenate([line[:, 1] for line in lines])
    least, most = float(values.min()), float(values.max())
    if least > 0 and most > STEEP * np.quantile(values, LOW):
        scale(ax, "y", [least, most])
    else:
        ax.yaxis.set_major_formatter(FuncFormatter(tick))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4))
    ax.xaxis.set_major_formatter(lambda value, position: _images(value))


def _images(count: float) -> str:
    """`800`, `20k`, `1.5M`."""
    return next((f"{count / unit:g}{name}" for unit, name in ((1e6, "M"), (1e3, "k")) if count >= unit), f"{count:g}")


def _common(lines: list[np.ndarray]) -> np.ndarray:
    """Numbers of images at which all of the lines have a loss, measured or between two that are."""
    import numpy as np

    xs: np.ndarray = np.unique(np.concatenate([line[:, 0] for line in lines]))
    first, last = max(line[0, 0] for line in lines), min(line[-1, 0] for line in lines)
    xs = xs[(xs >= first) & (xs <= last)]
    return xs[:: 1 + len(xs) // MOST_POINTS]


def _spread(lines: list[np.ndarray], xs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The lowest, the mean and the highest of the lines at `xs`, each straight between its points."""
    import numpy as np

    values = np.stack([np.interp(xs, line[:, 0], line[:, 1]) for line in lines])
    return values.min(0), values.mean(0), values.max(0)


def _without_curve(record: Record, drawn: bool, lost: int) -> Iterator[str]:
    """That the run has no curve, or that it breaks off or has gaps."""
    run = f"{record.job.label} seed {record.job.seed}"
    if drawn and record.status != "complete":
        yield f"{run} to its end ({record.status})"
    elif not drawn and not is_reference(record):
        yield f"{run} ({'no curve kept' if record.status == 'complete' else record.status})"
    if lost:
        yield f"{lost} points of {run} (no finite loss)"
