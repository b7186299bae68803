"""Tables -> learning curves from the run folders' progress.jsonl, with bands over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from genbench.groups import is_reference
from genbench.layout import Table
from genbench.panels import CROWD, MOST_LINES, Looks, Points, first_seeds, palette, panels, rows_of
from genbench.plots_cost import curves
from genbench.records import Record
from genbench.style import captioned, draw_lines, most, panels_of, scale, short, styled
from genbench.tables import read_progress

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = 36
MOST_POINTS = 200
"""Of a line: more could not be told apart."""
STEEP = 20
"""The factor between highest and lowest loss beyond which the axis is logarithmic."""


class Key(NamedTuple):
    """Whose panel it is, what is drawn, and in which phase or which extractor's features."""

    dataset: str
    name: str
    what: str
    part: str


def learning_curves(tables: Iterable[Table], looks: Looks | None = None) -> Figure:
    """Loss, and where it was scored on the way FID, over images: a line a seed and a band over several.

    A panel a dataset, model and phase: losses of different models do not compare, so that they never share one.
    """
    tables = list(tables)
    looks = looks or palette(tables)
    losses, missing = _all_losses(tables)
    with styled():
        shown, more = most([*sorted(_all_scores(tables).items()), *sorted(losses.items())])
        figure, axes = panels_of(len(shown), (3.2, 2.1), columns=3)
        keys = [key for key, _ in shown]
        for ax, (key, some) in zip(axes, shown):
            _draw_curves(ax, some, looks[key.name][0])
            ax.set(title=_title(key, keys), xlabel="images", ylabel=key.what)
        text = "Training loss over images; losses of different models do not compare."
        if any(_several(some) for _, some in shown):
            text += " Band: from the lowest to the highest seed; bold: their mean."
        return captioned(figure, f"{text[:-1]}{first_seeds(tables)}.", [*more, *missing])


def _all_losses(tables: list[Table]) -> tuple[dict[Key, list[np.ndarray]], list[str]]:
    """The losses of every run by panel, and what is missing."""
    runs = {record.place: (row.name, record) for row in rows_of(tables) for record in row.records[:MOST_LINES]}
    lines: dict[Key, list[np.ndarray]] = {}
    missing: list[str] = []
    for name, record in runs.values():
        found, lost = _losses(record)
        for phase, points in found.items():
            lines.setdefault(Key(record.dataset.name, name, "loss", phase), []).append(points)
        missing += _without_curve(record, bool(found), lost)
    return lines, missing


def _all_scores(tables: list[Table]) -> dict[Key, list[np.ndarray]]:
    """FID against test images along the trainings that were scored on the way, by panel."""
    import numpy as np

    found: dict[Key, list[np.ndarray]] = {}
    for panel in panels(tables, "fid_test"):
        for name, paths in curves(panel, lambda point: point.images)[0].items():
            key = Key(panel.table.dataset, name, "FID test", panel.column.extractor)
            found.setdefault(key, []).extend(map(np.array, paths))
    return found


def _several(lines: list[np.ndarray]) -> bool:
    return len(lines) > 1


def _title(key: Key, keys: list[Key]) -> str:
    """What tells a panel from the others: its model, its phase or extractor, its dataset where there are several."""
    rivals = [other for other in keys if other[:3] == key[:3]]
    words = f", {key.part}" if len(rivals) > 1 else ""
    words += f", {key.dataset}" if any(other.dataset != key.dataset for other in keys) else ""
    words = short(words, TITLE - 6)
    return short(key.name, TITLE - len(words)) + words


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
    """A line a run; of several runs thin ones, and a band with their mean as far as all of them go."""
    from matplotlib.ticker import MaxNLocator

    look = (colour, "")
    style: Any = {"linewidth": 0.7, "alpha": 0.5} if _several(lines) else {"linewidth": 1.3}
    draw_lines(ax, [line[:: 1 + len(line) // MOST_POINTS] for line in lines], look, len(lines) > CROWD, **style)
    if _several(lines) and len(xs := _common(lines)):
        low, mean, high = _spread(lines, xs)
        ax.fill_between(xs, low, high, color=colour, alpha=0.25, linewidth=0)
        ax.plot(xs, mean, color=colour, linewidth=1.6)
    ax.autoscale_view()
    ends = [float(end) for line in lines for end in (line[:, 1].min(), line[:, 1].max())]
    if min(ends) > 0 and max(ends) > STEEP * min(ends):
        scale(ax, "y", ends)
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
