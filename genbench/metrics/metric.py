"""One entry a metric: how it is named, written, ordered and measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from genbench.metrics.case import Case, Split

if TYPE_CHECKING:
    from genbench.metrics.value import Value

Better = Literal["lower", "higher"]
LAST = 1000
"""The place of a metric that names none."""


@dataclass(frozen=True)
class Measured:
    """A metric's value, the number of generated images it is of, and its own settings, which are its protocol."""

    value: Value
    count: int
    settings: dict[str, Any]


@dataclass(frozen=True)
class Metric:
    """A metric: `heading` is what a table says for its name, `style` a key of `genbench.support.text.STYLES`.

    `split` is that of the real images it needs: `real`, whose samples are training images, is measured with test
    images in their stead against `train`. `places` are positions by layout, and in a `record`; every metric stands in
    the layout `full`. `measure` gives values by metric, and is called once for all metrics that share it; a metric
    without is measured elsewhere. `needs` is the ability that a model must have, a key of
    `genbench.capabilities.CAPABILITIES`; those of the family `fidelity` need samples.
    """

    name: str
    heading: str
    better: Better = "lower"
    style: str = "share"
    split: Split = ""
    family: Literal["fidelity", "likelihood", "reconstruction"] = "fidelity"
    needs: str = ""
    places: Mapping[str, int] = field(default_factory=dict)
    measure: Callable[[Case], Mapping[str, Measured]] | None = None

    def place(self, where: str) -> int:
        """The position in a layout or in a `record`."""
        return self.places.get(where, LAST)
