"""What the page of the ruler shows: each extractor on each dataset, what its metrics tell apart, and the ladders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from genbench.metrics import metric_named
from genbench.records.ruler import Ruler
from genbench.support.text import DASH, STYLES, number
from genbench.tables.layout import Table
from genbench.tables.ruler import NOISE, REAL, ordered, refusal, value_of, worst_text
from genbench.tables.verdicts import rulers_of


@dataclass(frozen=True)
class Verdict:
    """A metric as the page shows it: how it scores real images, the worst rung and noise, and why it may not rank."""

    heading: str
    why: str
    real: str
    worst: str
    rung: str
    noise: str


@dataclass(frozen=True)
class Tried:
    """A ruler, and the table whose columns it judges, cut to the columns of its extractor."""

    table: Table
    ruler: Ruler
    anchor: str

    @property
    def refusal(self) -> str:
        """Why none of the metrics may rank, if that is one reason; else ""."""
        return refusal(self.ruler)

    @property
    def verdicts(self) -> list[Verdict]:
        """A line per metric."""
        ruler, found = self.ruler, []
        for metric in ordered(ruler):
            real, noise = (value_of(ruler, control, metric) for control in (REAL, NOISE))
            heading, why = metric_named(metric).heading, ruler.verdicts[metric]
            found.append(Verdict(heading, why, real, *worst_text(ruler, metric), noise))
        return found

    @property
    def headings(self) -> list[str]:
        """The metrics of `rungs`."""
        return [metric_named(metric).heading for metric in ordered(self.ruler)]

    @property
    def rungs(self) -> list[tuple[str, str, list[tuple[str, str]]]]:
        """Control, strength, and of each metric value and standard error as text."""
        return [
            (rung.control, rung.strength, [_value(rung.values, rung.errors, metric) for metric in ordered(self.ruler)])
            for rung in self.ruler.rungs
        ]


def _value(values: dict[str, float], errors: dict[str, float], metric: str) -> tuple[str, str]:
    if metric not in values:
        return DASH, ""
    style = metric_named(metric).style
    error = f"± {STYLES[style](errors[metric], values[metric])}" if metric in errors else ""
    return number(values[metric], style), error


def rulers_in(tables: Iterable[Table]) -> list[Tried]:
    """The rulers of the full tables, each once."""
    found: dict[tuple[str, str, int, int], Tried] = {}
    for table in tables:
        for extractor, ruler in rulers_of(record for row in table.rows for record in row.records).items():
            columns = tuple(column for column in table.columns if column.extractor == extractor)
            key = (table.digest, extractor, ruler.images, ruler.reference_images)
            if key not in found or (ruler.rungs and not found[key].ruler.rungs):
                found[key] = Tried(replace(table, columns=columns), ruler, "")
    return [replace(tried, anchor=f"ruler-{number}") for number, tried in enumerate(found.values(), 1)]
