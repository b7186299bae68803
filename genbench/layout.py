"""What a table is made of: cells, columns, rows, and how good a number is."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from genbench.records import Record

Layout = Literal["quality", "cost", "full"]
Relation = Literal["", "<=", "~"]
Kind = Literal["model", "real", "noise", "published"]


@dataclass(frozen=True)
class Cell:
    """One entry: the mean over the finished seeds, or None with the reason.

    `spread` is the sample standard deviation over seeds; `stderr` is the standard error of `value`: within the run
    where one seed finished, spread / sqrt(n_ok) where several did. `values` holds each run's own, by seed. `printed`: a
    published number as it stands in the source.
    """

    value: float | None = None
    stderr: float | None = None
    spread: float | None = None
    interval: tuple[float, float] | None = None
    values: tuple[float | None, ...] = ()
    count: int = 0
    n_ok: int = 0
    n: int = 0
    status: str = "ok"
    relation: Relation = ""
    kind: str = ""
    protocol: str = ""
    note: str = ""
    best: bool = False
    printed: str = ""


@dataclass(frozen=True)
class Column:
    """A heading over one cell of each row, or over two of which the second is printed in parentheses."""

    keys: tuple[str, ...]
    heading: str
    styles: tuple[str, ...]
    metric: str = ""
    extractor: str = ""
    better: Literal["lower", "higher"] | None = None

    @property
    def key(self) -> str:
        return self.keys[0]


@dataclass(frozen=True)
class Row:
    """A model (with all its seeds), a reference, or a published row; `block` is the heading it stands under."""

    name: str
    label: str
    model: str
    kind: Kind
    block: str
    cells: dict[str, Cell]
    dataset: str = ""
    conditional: bool | None = None
    seeds: tuple[int, ...] = ()
    statuses: dict[str, int] = field(default_factory=dict)
    note: str = ""
    records: tuple[Record, ...] = ()

    @property
    def n(self) -> int:
        return sum(self.statuses.values())

    @property
    def n_ok(self) -> int:
        return self.statuses.get("complete", 0)


@dataclass(frozen=True)
class Table:
    """One ranked group in one layout, or one published table; `footnotes` are whole sentences."""

    layout: Layout
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...] = ()
    dataset: str = ""
    digest: str = ""
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    published: bool = False

    @property
    def blocks(self) -> list[tuple[str, list[Row]]]:
        """The rows by block, in order; `real` and `noise` each make a block without a heading."""
        return [(block, list(rows)) for (block, _), rows in groupby(self.rows, key=lambda row: (row.block, row.kind))]
