"""Two runs or two labels head to head: who stands against whom, and what differs, in rows and in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genbench.records.record import Record
from genbench.records.record_files import Found, find_records, load_each
from genbench.records.slots import extractor_name, flatten, slot_of
from genbench.support.errors import BadInput, did_you_mean
from genbench.support.text import DASH, plain, shortened
from genbench.tables.build import row_names
from genbench.tables.groups import identity, unique
from genbench.tables.head_to_head import HeadToHead, Side, head_to_head
from genbench.tables.head_to_head_text import plain_of, text_of
from genbench.tables.verdicts import verdict
from genbench.tables.wording import UNRANKED

TOPICS = {
    "job.config.": "options", "job.budget.": "budget", "job.": "job", "samples.config.": "sampling",
    "environment.plugin.": "code", "environment.": "environment", "dataset.": "dataset", "protocols.": "protocols",
}  # fmt: skip
"""By the beginning of a key what it is of; a cost, a number or a date is of nothing."""
OPTIONS = ("options", "sampling")
"""Topics of which it is counted what only one of the two has."""
MOST, LONGEST = 6, 20
"""Differences of a topic, and characters of a value, that are told in words."""
IGNORED = ("job.id", "attempts", "evaluation_key", "samples.key", "files", "command", "code")


@dataclass(frozen=True)
class Comparison:
    """A head to head, and a row for everything that differs between two of its runs."""

    match: HeadToHead
    rows: list[dict[str, Any]]

    @classmethod
    def of(cls, sides: tuple[Side, Side]) -> Comparison:
        match = head_to_head(*sides)
        return cls(match, differences(match.a.records[0], match.b.records[0]))

    @property
    def _words(self) -> list[str]:
        return in_words(self.rows, self.match.a.name, self.match.b.name)

    def text(self, room: int) -> str:
        """What a reader sees in so many columns."""
        return text_of(self.match, self._words, room) if self.rows else "no difference"

    def raw(self) -> str:
        """Everything that differs, a line each."""
        keys = [f"{row['key']} {UNRANKED}" if row["unranked"] else row["key"] for row in self.rows]
        lines = [f"{key:48} {row['a']!s:>28} {row['b']!s:>28}" for key, row in zip(keys, self.rows)]
        lines += [
            f"{UNRANKED} {row['key'].removeprefix('measurements.')} may not rank: {row['unranked']}"
            for row in self.rows
            if row["unranked"]
        ]
        return "\n".join(map(plain, lines)) or "no difference"

    def as_dict(self) -> dict[str, Any]:
        return plain_of(self.match, self._words, self.rows)


def compared(runs: Sequence[Path], labels: tuple[str, str] | None) -> tuple[Found, list[Comparison]]:
    """What is compared, and what could not be read of it. Raises BadInput."""
    if labels:
        found = find_records(runs)
        return found, [Comparison.of(sides) for sides in sides_of(found.records, labels)]
    if len(runs) != 2:
        raise BadInput(f"{len(runs)} paths", "give two run folders, RUN_A RUN_B, or RUNS... --labels A B")
    return Found(), [Comparison.of(run_sides(load_each(runs)))]


def differences(a: Record, b: Record) -> list[dict[str, Any]]:
    """A row (key, a, b) for everything that differs; numbers by metric and extractor, protocols by setting.

    `unranked` says why a number may not rank; "" if it may, or is none.
    """
    left, right = leaves(a), leaves(b)
    keys = [*left, *(key for key in right if key not in left)]
    slots = {slot_of(m, record.protocols) for record in (a, b) for m in record.measurements}
    unranked = {f"measurements.{_name(*slot)}": verdict([a, b], slot) for slot in slots}
    return [
        {"key": key, "a": left.get(key), "b": right.get(key), "unranked": unranked.get(key, "")}
        for key in keys
        if left.get(key) != right.get(key) and not key.startswith(IGNORED)
    ]


def leaves(record: Record) -> dict[str, Any]:
    """A record as a flat dict with dotted keys, without rungs; measurements and protocols by metric and extractor."""
    plain = record.model_dump(mode="json", exclude={"folder", "measurements", "protocols", "curve", "rulers"})
    plain["rulers"] = {name: ruler.model_dump(mode="json", exclude={"rungs"}) for name, ruler in record.rulers.items()}
    flat = flatten(plain)
    for measurement in record.measurements:
        settings = record.protocols.get(measurement.protocol, {})
        name = _name(measurement.metric, extractor_name(settings))
        flat[f"measurements.{name}"] = measurement.value if measurement.status == "ok" else measurement.status
        flat |= flatten(settings, f"protocols.{name}.")
    return flat


def _name(metric: str, extractor: str) -> str:
    return metric + (f" ({extractor})" if extractor else "")


def sides_of(records: Iterable[Record], labels: Sequence[str]) -> list[tuple[Side, Side]]:
    """The runs of two labels as the sides of a head to head, for each dataset and block that both have.

    A label may also be the name that a table gives to one of several rows of a label. Raises BadInput for a name that
    no row has, or that several have.
    """
    if labels[0] == labels[1]:
        raise BadInput(f"--labels: twice {labels[0]!r}", "give two labels, or two run folders")
    families: dict[tuple[Any, ...], list[Record]] = {}
    for record in unique(records)[0]:
        families.setdefault(identity(record), []).append(record)
    rows = list(zip(row_names([some[0] for some in families.values()]), families.values()))
    first, second = (_by_place(label, rows) for label in labels)
    places = [place for place in first if place in second]
    if not places and len(first) == len(second) == 1:
        return list(zip(first.values(), second.values()))
    if not places:
        hint = f"{labels[0]}: {_place_words(first)}; {labels[1]}: {_place_words(second)}"
        raise BadInput(f"--labels {labels[0]} {labels[1]}: never on one dataset, conditioned alike", hint)
    return [(first[place], second[place]) for place in places]


def _by_place(label: str, rows: list[tuple[str, list[Record]]]) -> dict[tuple[str, str, str], Side]:
    """The runs of a label by dataset, digest and block."""
    found: dict[tuple[str, str, str], Side] = {}
    named = [row for row in rows if row[0] == label] or [row for row in rows if row[1][0].job.label == label]
    if not named:
        raise BadInput(f"--labels: no run is called {label!r}", did_you_mean(label, {name for name, _ in rows}))
    for _, records in named:
        record = records[0]
        place = record.dataset.name, record.dataset.digest, record.job.block
        if place in found:
            several = " or ".join(repr(name) for name in sorted(name for name, _ in named))
            raise BadInput(f"--labels: {label!r} stands for several rows", f"give one row's whole name: {several}")
        found[place] = Side(label, tuple(sorted(records, key=lambda record: record.job.seed)))
    return found


def _place_words(places: Iterable[tuple[str, str, str]]) -> str:
    return ", ".join(f"{name} {digest[:12]} {block.lower()}" for name, digest, block in places)


def run_sides(records: Sequence[Record]) -> tuple[Side, Side]:
    """Two runs as the sides of a head to head, each named by what tells it from the other."""
    rows = row_names(list(records))
    seeds = [f"{name} seed {record.job.seed}" for name, record in zip(rows, records)]
    ways = [rows, seeds, [record.job.id for record in records], [record.place for record in records]]
    names = next((names for names in ways if names[0] != names[1]), seeds)
    a, b = (Side(name, (record,)) for name, record in zip(names, records))
    return a, b


def in_words(rows: Iterable[Mapping[str, Any]], a: str, b: str) -> list[str]:
    """What differs between two runs, the numbers apart, as a few lines: `options: batch_size 64 | 128`."""
    told: dict[str, list[str]] = {}
    alone: dict[str, list[int]] = {}
    for row in rows:
        key = str(row["key"])
        topic = next((topic for prefix, topic in TOPICS.items() if key.startswith(prefix)), "")
        if not topic or key == "job.label":
            continue
        name = key.removeprefix(next(prefix for prefix in TOPICS if key.startswith(prefix)))
        if row["a"] is None or row["b"] is None:
            alone.setdefault(topic, [0, 0])[row["a"] is None] += topic in OPTIONS
            continue
        words = [shortened(DASH if row[side] is None else str(row[side]), LONGEST) for side in ("a", "b")]
        told.setdefault(topic, []).append(f"{name} {words[0]} | {words[1]}")
    lines = []
    for topic in dict.fromkeys(TOPICS.values()):
        some = told.get(topic, [])
        more = [f"and {len(some) - MOST} more"] if len(some) > MOST else []
        more += [f"{n} that only {name} has" for n, name in zip(alone.get(topic, []), (a, b)) if n]
        if words_of := [*some[:MOST], *more]:
            lines.append(f"{topic}: {'; '.join(words_of)}")
    return [*lines, "(first | second; everything: --raw)"] if lines else ["nothing that is recorded"]
