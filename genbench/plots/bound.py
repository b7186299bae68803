"""Tables -> the figure of a bound's terms over the steps of its process, from the run folders' bound.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError, model_validator

from genbench.plots.panels import Looks, palette
from genbench.plots.style import captioned, legend, most, panels_of, scale, short, styled
from genbench.records.record import Record
from genbench.records.run_folder import vouched
from genbench.support.errors import CorruptData, removal
from genbench.tables.groups import is_reference
from genbench.tables.layout import Table
from genbench.tables.panels import rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE = "bound.json"
SMALLEST = 1e-9
"""Terms below it are not drawn: a logarithmic axis has no zero."""


class Terms(BaseModel):
    """What bound.json holds: the mean term at each time on `images` test images, bits/dim, with its standard error."""

    model_config = ConfigDict(extra="ignore")

    images: int
    t: list[int]
    bits_per_dim: list[FiniteFloat]
    stderr: list[FiniteFloat]

    @model_validator(mode="after")
    def equally_long(self) -> Terms:
        if not len(self.t) == len(self.bits_per_dim) == len(self.stderr):
            raise ValueError("t, bits_per_dim and stderr differ in length")
        return self


def read_terms(record: Record) -> Terms | None:
    """The terms that a run kept, or None. Raises CorruptData naming the file."""
    file = vouched(record, FILE) if FILE in record.artifacts else None
    if file is None:
        return None
    try:
        return Terms.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        raise CorruptData(f"{file}: not the terms of a bound: {error}", removal(file)) from error


def bound_over_time(tables: Iterable[Table], looks: Looks | None = None) -> Figure:
    """L_{t-1} in bits per dimension over t, both axes logarithmic: a line per run, a panel per dataset."""
    tables = list(tables)
    looks = looks or palette(tables)
    rows = rows_of(tables)
    runs = {record.place: (row.name, record) for row in rows for record in row.records}
    panels: dict[tuple[str, str], list[tuple[str, Terms]]] = {}
    for name, record in runs.values():
        if terms := read_terms(record):
            panels.setdefault((record.dataset.name, record.dataset.digest), []).append((name, terms))
    with styled():
        shown, more = most(sorted(panels.items()))
        figure, axes = panels_of(len(shown), (5.4, 3.4), columns=1)
        missing = [
            f"{record.job.label} seed {record.job.seed} ({record.status})"
            for _, record in runs.values()
            if record.status != "complete" and not is_reference(record)
        ]
        missing += more
        for ax, ((name, _), lines) in zip(axes, shown):
            missing += _draw(ax, lines, looks)
            ax.set(title=short(name), xlabel="step t of the process", ylabel="term, bits/dim")
        text = (
            "The terms of the variational bound over the steps t of the process, in bits per dimension: L_0 at t = 1, "
            "L_(t-1) from t = 2. Their sum over all t, with what the model adds, is its bits/dim."
        )
        return captioned(figure, text, missing)


def _draw(ax: Axes, lines: list[tuple[str, Terms]], looks: Looks) -> list[str]:
    """Draw one panel and say what is missing from it."""
    handles: dict[str, Any] = {}
    drawn: list[tuple[int, float]] = []
    missing = []
    for name, terms in lines:
        points = [(t, value) for t, value in zip(terms.t, terms.bits_per_dim) if value > SMALLEST]
        drawn += points
        if len(points) < len(terms.t):
            missing.append(f"{len(terms.t) - len(points)} terms of {name} that are zero or negative")
        xs, ys = [t for t, _ in points], [value for _, value in points]
        colour, marker = looks[name]
        (handles[name],) = ax.plot(xs, ys, color=colour, linewidth=1.3, marker=marker, markersize=4)
    scale(ax, "x", [t for t, _ in drawn])
    scale(ax, "y", [value for _, value in drawn])
    legend(ax, list(handles.values()), [short(name) for name in handles])
    return missing
