"""Rows of one training that differ in one number of the sampling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from genbench.records.record import Record
from genbench.tables.layout import Row


@dataclass(frozen=True)
class Sweep:
    """Rows of one training that differ in one option of sampling alone, by its value."""

    option: str
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """The words that all their labels begin with, or their model's name."""
        words = zip(*(row.label.split("-") for row in self.rows))
        return "-".join(some[0] for some in takewhile(lambda some: len(set(some)) == 1, words)) or self.rows[0].model

    def value(self, row: Row) -> float:
        return float(_options(row)[self.option])


def training_of(record: Record) -> str:
    """The id of the job that trained the weights of a run: another row's, if it shares a training."""
    train = record.cost.train
    return (train.trained_by if train else "") or record.job.id


def sweeps_of(rows: Iterable[Row]) -> Iterator[Sweep]:
    """The sweeps among the rows: of each training and numeric option, those that agree in all other options."""
    for family in _families(rows):
        options = {row.name: _options(row) for row in family}
        for option in _options(family[0]):
            if not all(_is_number(own.get(option)) for own in options.values()):
                continue
            alike: dict[str, list[Row]] = {}
            for row in family:
                others = {name: value for name, value in options[row.name].items() if name != option}
                alike.setdefault(repr(sorted(others.items())), []).append(row)
            for some in alike.values():
                if len({options[row.name][option] for row in some}) > 1:
                    yield Sweep(option, tuple(sorted(some, key=lambda row: options[row.name][option])))


def _families(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of each training, or of the same trainings with several seeds."""
    found: list[tuple[set[str], list[Row]]] = []
    for row in rows:
        own = {training_of(record) for record in row.records}
        for trainings, members in found:
            if trainings & own:
                trainings |= own
                members.append(row)
                break
        else:
            found.append((own, [row]))
    return [members for _, members in found]


def _options(row: Row) -> dict[str, Any]:
    """The options of sampling of a row."""
    return row.records[0].samples.config


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
