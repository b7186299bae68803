"""What must be known of a published table beside its numbers: where they are from, how they came about, what is odd."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class RowFacts:
    """What is known of the rows of these names; `conditional` None: whether they are conditional or not.

    `note` says what is odd about their numbers and `source` where that, and their number of `parameters`, is written.
    """

    names: tuple[str, ...]
    conditional: bool | None = None
    note: str = ""
    source: str = ""
    parameters: float | None = None

    @property
    def remark(self) -> str:
        """The note with its source, as a footnote; "" if nothing is odd."""
        return f"{self.note.rstrip('.')} ({self.source})." if self.note else ""

    def is_of(self, name: str, conditional: bool) -> bool:
        """Whether they are about a row."""
        return name in self.names and self.conditional in (None, conditional)


NOTHING = RowFacts(())


@dataclass(frozen=True)
class Facts:
    """The facts of a published table: what it is called in a sentence, its source, and how its numbers came about.

    `cost` says how its compute and its speed were counted and where first stages are, if it has these.
    """

    table: str
    source: str
    setting: Mapping[str, str] = field(default_factory=dict)
    rows: tuple[RowFacts, ...] = ()
    cost: Mapping[str, str] = field(default_factory=dict)

    def of(self, name: str, conditional: bool) -> RowFacts:
        """What is known of a row."""
        return next((row for row in self.rows if row.is_of(name, conditional)), NOTHING)


def read_facts(name: str) -> Facts:
    """The facts in a file of this package. Raises KeyError or TypeError if it lacks something or has too much."""
    read = tomllib.loads(files(__package__).joinpath(name).read_text(encoding="utf-8"))
    rows = tuple(RowFacts(**{key: _plain(value) for key, value in row.items()}) for row in read["rows"])
    return Facts(_plain(read["table"]), _plain(read["source"]), read["setting"], rows, read.get("cost", {}))


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip()
    return tuple(value) if isinstance(value, Iterable) else value
