"""One entry per metric: how it is named, formatted, ordered and measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from genbench.metrics.case import Case, Split

if TYPE_CHECKING:
    from genbench.metrics.value import Value

Better = Literal["lower", "higher"]
Sees = Literal["", "everything", "fidelity", "diversity", "classes", "copies"]
"""What a metric must tell from real images before it may rank; "" if it is not tried."""
LAST = 1000
"""The default place of a metric."""


@dataclass(frozen=True)
class Measured:
    """A metric's value, the number of generated images it was measured on, and its settings, part of its protocol."""

    value: Value
    count: int
    settings: dict[str, Any]


@dataclass(frozen=True)
class Metric:
    """A metric: `heading` is its name in tables, `style` a key of `genbench.support.text.STYLES`.

    `split` is that of the real images it needs; against `train`, the row `real`, which consists of training images, is
    measured with test images instead. `places` are positions by layout, and in a `record`; the layout `full` has every
    metric. `measure` gives values by metric, and is called once for all metrics that share it; a metric without one is
    measured elsewhere. `needs` is the ability that a model must have, a key of
    `genbench.capabilities.CAPABILITIES`; those of the families `fidelity`, `copying` and `answers` need samples, the
    last of a condition that leaves an image open, and one that is `labelled` those that were drawn under labels. The
    place `headline` is that among the metrics by which a winner may be named: the first that may rank is taken. One
    that is not `ranked` has no better direction in tables. `sees` is what it is tried on before it may rank, unless it
    is `judged_as` another.
    """

    name: str
    heading: str
    better: Better = "lower"
    style: str = "share"
    split: Split = ""
    family: Literal["fidelity", "likelihood", "reconstruction", "classification", "copying", "answers"] = "fidelity"
    needs: str = ""
    labelled: bool = False
    ranked: bool = True
    sees: Sees = ""
    judged_as: str = ""
    places: Mapping[str, int] = field(default_factory=dict)
    measure: Callable[[Case], Mapping[str, Measured]] | None = None

    @property
    def of_samples(self) -> bool:
        """Whether it is measured on samples, and not on the model itself."""
        return self.family in ("fidelity", "copying", "answers")

    def place(self, where: str) -> int:
        """The position in a layout or in a `record`."""
        return self.places.get(where, LAST)
