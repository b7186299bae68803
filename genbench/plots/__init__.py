"""The figures of a report, by name: what draws each of them, and whether it is of a dataset or of a model.

They are drawn from the tables of the layout `full`. A plot shows together only what a table ranks together: a panel for
each group, conditional or not, and extractor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genbench.plots.bound import bound_over_time
from genbench.plots.cost import cost_by_phase, fid_against_evaluations, fid_against_sampling, fid_against_training
from genbench.plots.learning import learning_curves
from genbench.plots.likelihood import likelihoods
from genbench.plots.paired import fid_against_compute, fid_against_throughput
from genbench.plots.panels import Looks, palette
from genbench.plots.ranks import ranks
from genbench.plots.ruler import ladders
from genbench.plots.sheets import COUNT, first_samples, sheet
from genbench.plots.style import LONGEST, captioned, panels_of, short, styled
from genbench.plots.sweeps import sampling_options
from genbench.tables.columns import open_cost
from genbench.tables.layout import Table
from genbench.tables.panels import Panel, among, panels, rows_of

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

__all__ = [
    "ALL", "Looks", "Panel", "Plot", "bound_over_time", "cost_by_phase", "fid_against_compute",
    "fid_against_evaluations", "fid_against_sampling", "fid_against_throughput", "fid_against_training", "ladders",
    "learning_curves", "likelihoods", "palette", "panels", "ranks", "sample_grids", "sampling_options",
]  # fmt: skip


def sample_grids(tables: Iterable[Table], count: int = COUNT) -> Figure:
    """The first samples of every row side by side at one size, in the order of the tables."""
    pictures: list[tuple[str, np.ndarray]] = []
    missing, rows = [], rows_of(tables)
    for row in rows:
        images = next((found for record in row.records if (found := first_samples(record, count)) is not None), None)
        if images is None:
            missing.append(f"{row.name} (no samples)")
        else:
            words = among(row, rows)
            pictures.append((short(row.name, LONGEST - len(words)) + words, sheet(images, math.isqrt(count))))
    with styled():
        figure, axes = panels_of(len(pictures), (2.4, 2.64), 4, margins=(0.06, 0.06, 0.3, 0.06))
        for ax, (name, page) in zip(axes, pictures):
            ax.imshow(page, interpolation="nearest")
            ax.set(title=name)
            ax.set_axis_off()
        return captioned(figure, f"The first {count} samples of every model, not chosen.", missing)


@dataclass(frozen=True)
class Plot:
    """One figure of a report: its heading, what draws it from full tables, and its section.

    That is a layout, on the page of a dataset, whose tables it is given; `model`, on the page of a model, to which
    they are cut; or `ruler`, on the page of that name, where they are cut to the columns of one extractor.
    """

    title: str
    draw: Callable[[list[Table], Looks], Figure]
    section: str = "quality"


def _against_flops(tables: list[Table], looks: Looks) -> Figure:
    return fid_against_training(tables, "flops", looks)


def _against_seconds(tables: list[Table], looks: Looks) -> Figure:
    return fid_against_training(tables, looks=looks)


def _ladders(tables: list[Table], looks: Looks) -> Figure:
    return ladders(tables)


ALL: dict[str, Plot] = {
    "fid-training-seconds": Plot("FID against training time", _against_seconds),
    "fid-training-flops": Plot("FID against training FLOPs", _against_flops),
    "fid-sampling": Plot("FID against sampling cost", fid_against_sampling),
    "fid-evaluations": Plot("FID against network evaluations", fid_against_evaluations),
    "sampling-options": Plot("Quality against an option of sampling", sampling_options),
    "ranks": Plot("Published and measured ranks", ranks, "beside"),
    "fid-compute": Plot("FID against overall compute, published and measured", fid_against_compute, "beside"),
    "fid-throughput": Plot("FID against samples per second, published and measured", fid_against_throughput, "beside"),
    "likelihoods": Plot("Likelihoods", likelihoods, "likelihood"),
    "bound-over-time": Plot("Terms of the bound", bound_over_time, "likelihood"),
    "cost-by-phase": Plot("Training cost by phase", cost_by_phase, "cost"),
    "learning-curves": Plot("Learning curves", learning_curves, "model"),
    "ruler": Plot("The ladders", _ladders, "ruler"),
}
"""The plots of a report by file name."""


def of_training_cost(tables: Iterable[Table]) -> str:
    """The name of the plot of FID against training, over what the budgets leave open: FLOPs if all are in seconds."""
    records = [record for row in rows_of(tables) if row.kind == "model" for record in row.records]
    return "fid-training-flops" if open_cost(records) == "flops" else "fid-training-seconds"
