"""Two models, or two runs, head to head: what differs between their numbers, which is better, and at what cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from genbench.metrics import is_likelihood, metric_named, metrics_in
from genbench.records.equality import has_equal_seconds
from genbench.records.record import Record
from genbench.records.slots import Slot, flatten, slot_of
from genbench.tables.build import in_words_of, row_of
from genbench.tables.columns import COSTS
from genbench.tables.copying import telling
from genbench.tables.cost_notes import device_words
from genbench.tables.groups import Group, View, is_reference
from genbench.tables.intervals import Interval
from genbench.tables.layout import Cell, Column, Row
from genbench.tables.layouts import FULL, layouts
from genbench.tables.limits import doubted
from genbench.tables.pressing import tuning
from genbench.tables.ranking import LEAST_SEEDS, Entrant, Pair, difference
from genbench.tables.standings import entrant_of, of_samples, ranked
from genbench.tables.unequal import notes_of
from genbench.tables.verdicts import judged
from genbench.tables.wording import metric_words

Winner = Literal["", "a", "b"]
TOLD = {
    "flops": "{more} trains with {times} times the FLOPs of {less}",
    "train_seconds": "{more} trains {times} times as long as {less}",
    "images_per_second": "{more} samples {times} times as fast as {less}",
}
"""The costs that a verdict tells of, in words."""
SAME = (0.9, 1.1)
"""Ratios of costs that are not worth a word."""
COMPARED = ("parameters", "train_seconds", "device_seconds", "flops", "images", "steps", "peak_bytes",
            "images_per_second", "nfe", "train_joules", "sample_joules")  # fmt: skip
"""The costs that stand side by side."""


@dataclass(frozen=True)
class Side:
    """One of the two: its name, and its runs, one a seed."""

    name: str
    records: tuple[Record, ...]

    @property
    def seeds(self) -> set[int]:
        return {record.job.seed for record in self.records}

    def only(self, seeds: set[int]) -> Side:
        return replace(self, records=tuple(record for record in self.records if record.job.seed in seeds))


@dataclass(frozen=True)
class Difference:
    """A metric of both: `value` is the mean of a - b, with its 95 % interval if that is known.

    `better` is the side that the whole interval is in favour of; if neither is known to be better, `why` says the
    reason. `p` is that of the paired test, None if there are too few common seeds for one.
    """

    column: Column
    a: Cell
    b: Cell
    value: float
    interval: Interval | None
    better: Winner
    why: str
    p: float | None = None

    @property
    def tied_in_tables(self) -> bool:
        """Whether a table gives both one rank, by their own intervals, although one is better by the difference."""
        return bool(self.better) and self.a.rank is not None and self.a.rank == self.b.rank


@dataclass(frozen=True)
class Spent:
    """A cost of both, and how many times b's is a's; `equal`: their machines gave both what they could use."""

    name: str
    heading: str
    style: str
    a: float
    b: float
    equal: bool = True

    @property
    def ratio(self) -> float | None:
        return self.b / self.a if self.a else None


@dataclass(frozen=True)
class HeadToHead:
    """`apart` says what keeps numbers of the two from being compared, `seeds` are those that both were run with."""

    a: Side
    b: Side
    seeds: tuple[int, ...]
    apart: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    costs: list[Spent] = field(default_factory=list)

    @cached_property
    def paired(self) -> bool:
        """Whether several seeds were run with both."""
        return len(self.seeds) > 1

    @property
    def rivals(self) -> bool:
        """Whether a table ranks them together: models that are conditioned alike."""
        return not any(_is_reference(side) for side in (self.a, self.b)) and _block(self.a) == _block(self.b)


def head_to_head(a: Side, b: Side) -> HeadToHead:
    """Compare two sides over the seeds that both were run with, all if there are none.

    Numbers of two datasets are not compared, nor metrics that both have under different protocols alone.
    """
    common = a.seeds & b.seeds
    lone = [f"{side.name} with {_seed_words(more)}" for side in (a, b) if common and (more := side.seeds - common)]
    apart = [f"Only seeds of both are compared, not {' and '.join(lone)}."] if lone else []
    a, b = (a.only(common), b.only(common)) if common else (a, b)
    apart = _apart(a, b) + apart
    seeds = tuple(sorted(common))
    if _dataset(a) != _dataset(b):
        return HeadToHead(a, b, seeds, apart)
    group, others = _shared(a, b)
    rows, columns, pairs = _ranked(a, b, group)
    found = [_difference(rows, column, pairs) for column in columns if _both(rows, column)]
    unequal = [note for row in rows for note in notes_of([row])]
    return HeadToHead(a, b, seeds, apart + unequal + others, found, list(_costs(rows)))


def _is_reference(side: Side) -> bool:
    return is_reference(side.records[0])


def _block(side: Side) -> str:
    return side.records[0].job.block


def _dataset(side: Side) -> tuple[str, str]:
    stamp = side.records[0].dataset
    return stamp.name, stamp.digest


def _seed_words(seeds: Iterable[int]) -> str:
    some = sorted(seeds)
    return f"seed{'s' * (len(some) > 1)} {', '.join(map(str, some))}"


def _apart(a: Side, b: Side) -> list[str]:
    """What makes the two no rivals, or unequal ones, before any number is looked at."""
    first, second = a.records[0], b.records[0]
    told = []
    if _dataset(a) != _dataset(b):
        same = first.dataset.name == second.dataset.name
        stamps = [record.dataset for record in (first, second)]
        where = [f"{stamp.name} (digest {stamp.digest[:12]})" if same else stamp.name for stamp in stamps]
        told.append(f"{a.name} is on {where[0]}, {b.name} on {where[1]}: numbers of two datasets are never compared.")
    told += tuning([first])
    references = [side.name for side in (a, b) if _is_reference(side)]
    told += [f"{name} is a reference row, which is ranked with nothing." for name in references]
    if not references and _block(a) != _block(b):
        blocks = [_block(side).lower() for side in (a, b)]
        told.append(f"{a.name} is {blocks[0]}, {b.name} {blocks[1]}: they are never ranked together.")
    budgets = [record.job.budget.words() for record in (first, second)]
    if all(budgets) and budgets[0] != budgets[1]:
        told.append(f"Training budgets differ: {budgets[0]} for {a.name}, {budgets[1]} for {b.name}.")
    devices = [device_words(record) for record in (first, second)]
    if devices[0] != devices[1] and not references:
        told.append(f"Devices differ, and with them seconds: {devices[0]} for {a.name}, {devices[1]} for {b.name}.")
    for side in (a, b):
        if unfinished := [r.job.seed for r in side.records if r.status != "complete"]:
            told.append(f"{side.name} did not finish with {_seed_words(unfinished)}.")
    return told


def _shared(a: Side, b: Side) -> tuple[Group, list[str]]:
    """The measurements of both that one protocol is behind, and which metrics have none in common."""
    stamp = a.records[0].dataset
    group = Group(stamp.name, stamp.digest)
    ours, theirs = (_protocols(side) for side in (a, b))
    foreign: dict[str, list[str]] = {}
    for slot in [slot for slot in ours if slot in theirs]:
        common = ours[slot].keys() & theirs[slot].keys()
        if common:
            group.protocols[slot] = max(common, key=lambda key: (min(ours[slot][key], theirs[slot][key]), key))
        else:
            settings = [_settings(side, next(iter(known[slot]))) for side, known in ((a, ours), (b, theirs))]
            changed = [name for name in settings[0] | settings[1] if settings[0].get(name) != settings[1].get(name)]
            foreign.setdefault(", ".join(changed[:4]) or "unknown", []).append(metric_named(slot.metric).heading)
    for side in (a, b):
        for record in side.records:
            group.add(View(record, group.fitting(record)))
    return group, [
        f"Not compared, being measured under two protocols ({why}): {', '.join(dict.fromkeys(names))}."
        for why, names in foreign.items()
    ]


def _protocols(side: Side) -> dict[Slot, Counter[str]]:
    """How many runs have each metric, by its protocol."""
    found: dict[Slot, Counter[str]] = {}
    for record in side.records:
        for measurement in record.measurements:
            found.setdefault(slot_of(measurement, record.protocols), Counter())[measurement.protocol] += 1
    return found


def _settings(side: Side, protocol: str) -> dict[str, object]:
    return next(flatten(record.protocols[protocol]) for record in side.records if protocol in record.protocols)


def _ranked(a: Side, b: Side, group: Group) -> tuple[list[Row], list[Column], dict[Slot, Pair]]:
    """The two as rows of the full table, ranked by its rules."""
    columns = [in_words_of(group, judged(column, group)) for column in layouts()[FULL].columns(group)]
    keys = [key for column in columns for key in column.keys]
    split = [group.views[: len(a.records)], group.views[len(a.records) :]]
    rows = [row_of(side.name, sorted(own, key=_seed), keys) for side, own in zip((a, b), split)]
    rows, tests = ranked([doubted(row) for row in rows], columns)
    told = telling(group, [column.metric for column in columns if column.metric])
    return rows, [column for column in columns if column.metric in told], {slot: pair for slot, _, pair in tests}


def _seed(view: View) -> int:
    return view.record.job.seed


def _both(rows: Sequence[Row], column: Column) -> bool:
    return all(row.cells[column.key].value is not None for row in rows)


def _difference(rows: Sequence[Row], column: Column, pairs: dict[Slot, Pair]) -> Difference:
    a, b = (row.cells[column.key] for row in rows)
    entrants = [entrant_of(row.name, row, cell, of_samples(column)) for row, cell in zip(rows, (a, b))]
    value, interval = difference(*entrants)
    pair = pairs.get(column.key)
    why = _unable(rows, column, entrants) or _undecided(entrants, interval, pair)
    better: Winner = "" if why else "a" if (value < 0) == (column.better == "lower") else "b"
    return Difference(column, a, b, value, interval, better, why, pair.p if pair else None)


def _unable(rows: Sequence[Row], column: Column, entrants: list[Entrant]) -> str:
    """Why neither may be better, whatever the values; "" if one may."""
    a, b = (row.cells[column.key] for row in rows)
    if column.better is None:
        return "neither direction is better"
    if any(row.kind != "model" for row in rows):
        return "a reference row is no rival"
    if rows[0].block != rows[1].block:
        return "conditional and unconditional models are ranked apart"
    if why := column.unranked or a.flag or b.flag or a.unranked or b.unranked:
        return why.rstrip(".")
    if a.relation != b.relation or a.relation == "~":
        return "exact values, bounds and estimates are ranked apart" if a.relation != b.relation else "estimates"
    for row, entrant in zip(rows, entrants):
        if entrant.copies:
            return f"{row.name} copies images: {row.copying.rstrip('.')}"
        if not entrant.whole:
            return f"{row.name} has no value for some of its seeds"
    return ""


def _undecided(entrants: list[Entrant], interval: Interval | None, pair: Pair | None) -> str:
    """Why the values do not tell which is better; "" if they do."""
    a, b = entrants
    if interval is None:
        alone = len(a.measured) == len(b.measured) == 1
        return "no error is known" if alone or a.measured.keys() & b.measured.keys() else "no seed in common"
    if not interval[0] <= 0 <= interval[1]:
        return ""
    return f"paired t-test over {pair.seeds} seeds, p = {pair.p:.2g}" if pair else "0 is within the interval"


def _costs(rows: Sequence[Row]) -> Iterable[Spent]:
    """The costs that both have; device-seconds only if they are not the seconds."""
    known: list[tuple[float, float]] = []
    for name in COMPARED:
        words, style, _ = COSTS[name]
        a, b = (row.cells.get(Slot(name), Cell()).value for row in rows)
        if a is not None and b is not None and (name != "device_seconds" or (a, b) not in known):
            known.append((a, b))
            yield Spent(name, words, style, a, b, all(_equal(row, name) for row in rows))


def _equal(row: Row, cost: str) -> bool:
    """Whether a cost says what the model takes: seconds of a machine that was not its own do not."""
    costs = [record.cost for record in row.records]
    if cost == "train_seconds":
        return all(has_equal_seconds(each.train) for each in costs)
    return cost != "images_per_second" or all(has_equal_seconds(each.sample) for each in costs)


def verdict(match: HeadToHead) -> list[str]:
    """Who is better in what and how sure that is, then who is cheaper: after what sets the two apart."""
    told = list(match.apart)
    for side, winner, loser in (("a", match.a.name, match.b.name), ("b", match.b.name, match.a.name)):
        if names := _headings(d for d in match.differences if d.better == side):
            told.append(f"{winner} is better than {loser} in {names}.")
    able = [d for d in match.differences if match.rivals and d.column.better and not d.column.unranked]
    if names := _headings(d for d in able if not d.better):
        told.append(f"Which is better in {names} is not known.")
    if any(d.better for d in match.differences):
        told.append(_how_sure(match))
    if not match.differences:
        told.append("No metric was measured of both under one protocol.")
    return [*told, *_cheaper(match)]


def _headings(found: Iterable[Difference]) -> str:
    """`FID test, KID test and IS`: those that may name a winner first."""
    leading = metrics_in("headline")
    first = sorted(found, key=lambda d: [*leading, d.column.metric].index(d.column.metric))
    names = list(dict.fromkeys(heading(d.column) for d in first))
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def heading(column: Column) -> str:
    """`FID test`, `bits/dim test`: a metric in a sentence."""
    words = metric_words(column)
    return words.replace("NLL", "bits/dim") if is_likelihood(column.metric) else words


def _how_sure(match: HeadToHead) -> str:
    if len(match.seeds) >= LEAST_SEEDS:
        return f"By a paired t-test over {len(match.seeds)} common seeds, p ≤ 0.05 for each metric alone."
    if match.paired:
        return f"No claim of significance: fewer than {LEAST_SEEDS} common seeds ({len(match.seeds)})."
    return "One run each: no claim of significance, and the order may be due to the seed alone."


def _cheaper(match: HeadToHead) -> list[str]:
    """What training and sampling of the one take, as a multiple of the other's."""
    words = []
    for cost in match.costs:
        if cost.name not in TOLD or not cost.equal or not cost.ratio or SAME[0] < cost.ratio < SAME[1]:
            continue
        more, less = (match.b.name, match.a.name) if cost.ratio > 1 else (match.a.name, match.b.name)
        words.append(TOLD[cost.name].format(more=more, less=less, times=f"{max(cost.ratio, 1 / cost.ratio):.3g}"))
    return [f"{'; '.join(words)}."] if words else []
