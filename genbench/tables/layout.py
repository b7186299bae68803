"""What a table is made of: cells, columns, rows, and how good a number is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from genbench.records.record import UNDER_WAY, Record
from genbench.records.slots import Slot
from genbench.tables.groups import Group
from genbench.tables.intervals import Interval
from genbench.tables.ranking import Pair

Relation = Literal["", "<=", "~"]
Kind = Literal[
    "model", "real", "copies", "noise", "original", "shuffled", "neighbour", "mean", "posterior", "published"
]  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One entry: the mean over the finished seeds, or None with the reason.

    `spread` is the sample standard deviation over seeds; `stderr` is the standard error of `value`, and `interval` its
    95 % interval: within the run if one seed finished, over seeds if several did (`interval_of` says which).
    `values` and `ranges` hold each run's own value and interval, by seed. `rank` is shared if `tied`. `flag` says
    why a value is not believed, and so not ranked; `unranked` why one that is believed is not; `remark` what else a
    reader must know of it. `printed` is text shown as it is: a published number, a word.
    """

    value: float | None = None
    stderr: float | None = None
    spread: float | None = None
    interval: Interval | None = None
    interval_of: Literal["", "run", "seeds"] = ""
    values: tuple[float | None, ...] = ()
    ranges: tuple[Interval | None, ...] = ()
    count: int = 0
    n_ok: int = 0
    n: int = 0
    status: str = "ok"
    relation: Relation = ""
    kind: str = ""
    parts: dict[str, float] = field(default_factory=dict)
    protocol: str = ""
    note: str = ""
    flag: str = ""
    unranked: str = ""
    remark: str = ""
    rank: int | None = None
    tied: bool = False
    printed: str = ""

    @property
    def best(self) -> bool:
        """Whether no model of its column and block is known to be better."""
        return self.rank == 1


@dataclass(frozen=True)
class Column:
    """A heading over one cell of each row, or over two of which the second is printed in parentheses.

    `unranked` says why its values may not rank on these images; "" if they may.
    """

    keys: tuple[Slot, ...]
    heading: str
    styles: tuple[str, ...]
    metric: str = ""
    extractor: str = ""
    better: Literal["lower", "higher"] | None = None
    unranked: str = ""

    @property
    def key(self) -> Slot:
        return self.keys[0]


@dataclass(frozen=True)
class Row:
    """A model (with all its seeds), a reference, or a published row; `block` is the heading it stands under.

    `copying` says that its samples are copies of the dataset's images; "" if they are not. `unequal` says what some
    of its runs had less of than their machine could give, or that they were stopped; "" if nothing is known. `remark`
    says what is odd about its published numbers, with the source.
    """

    name: str
    label: str
    model: str
    kind: Kind
    block: str
    cells: dict[Slot, Cell]
    dataset: str = ""
    conditional: bool | None = None
    seeds: tuple[int, ...] = ()
    statuses: dict[str, int] = field(default_factory=dict)
    note: str = ""
    copying: str = ""
    unequal: str = ""
    remark: str = ""
    records: tuple[Record, ...] = ()

    @property
    def is_reference(self) -> bool:
        """Whether it shows what images of some kind score, and no model."""
        return self.kind not in ("model", "published")

    @property
    def ships(self) -> bool:
        """Whether its model is known to be one of genbench's own."""
        return any(record.code is not None and record.code.ships for record in self.records)

    @property
    def n(self) -> int:
        return sum(self.statuses.values())

    @property
    def n_ok(self) -> int:
        return self.statuses.get("complete", 0)

    @property
    def status(self) -> str:
        """`running`, or else `interrupted`, if none of its runs has ended; else ""."""
        under_way = [status for status in UNDER_WAY if status in self.statuses]
        return under_way[0] if under_way and set(self.statuses) <= set(UNDER_WAY) else ""


@dataclass(frozen=True)
class Table:
    """One ranked group in one layout, or one published table; `footnotes` are whole sentences.

    `differs`: the settings, with their values here, that set it apart from other groups of its dataset.
    `pairs` are the tests behind the ranks: (column, block, pair), if models have enough seeds in common. The first of
    the footnotes are `told` wherever the table is. If it is `paired`, its columns are pairs that stand side by side.
    """

    layout: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...] = ()
    dataset: str = ""
    digest: str = ""
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    published: bool = False
    differs: str = ""
    pairs: tuple[tuple[Slot, str, Pair], ...] = ()
    told: tuple[str, ...] = ()
    paired: bool = False

    @property
    def blocks(self) -> list[tuple[str, list[Row]]]:
        """The rows by block, in order; each reference of no block makes one without a heading."""

        def place(row: Row) -> tuple[str, str]:
            return row.block, "" if row.block else row.kind

        return [(block, list(rows)) for (block, _), rows in groupby(self.rows, key=place)]


@dataclass(frozen=True)
class Layout:
    """A choice of columns, in `genbench.tables.layouts` under its name.

    `title` heads its section of a report, where sections are ordered by `place` and left out unless `is_shown`; `order`
    is the metric that sorts the models, and `finish` gives the rows cells of the layout's own. `published` names the
    published tables that are laid out alike. One that is `paired` has pairs of columns that stand side by side, and
    its rows stay as `finish` leaves them; `told` gives the footnotes that are read first. One that has `parts` is laid
    out as each of these layouts, with the records beside it.
    """

    title: str
    place: int
    columns: Callable[[Group], list[Column]]
    order: str = "fid_test"
    finish: Callable[[list[Row], Group], list[Row]] = lambda rows, group: rows
    is_shown: Callable[[Table], bool] = lambda table: True
    published: tuple[str, ...] = ()
    paired: bool = False
    told: Callable[[list[Row], list[Column]], list[str]] = lambda rows, columns: []
    parts: Callable[[Group], list[tuple[Layout, Group]]] | None = None
