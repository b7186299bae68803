"""How alike the published and the measured order of the same models are: Kendall's tau, and the ranks behind it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from genbench.support.text import list_words
from genbench.tables.intervals import Interval, interval_over_seeds, mean_and_spread
from genbench.tables.layout import Cell, Column, Relation, Row
from genbench.tables.pairs import Pair
from genbench.tables.standings import UNEQUAL, of_samples
from genbench.tables.wording import metric_words

LEAST_ROWS = 4
"""With fewer there is no tau: most orders would be alike or reversed by chance."""


@dataclass(frozen=True)
class Order:
    """The models of one block with a number of one metric and kind on both sides, as published and as measured.

    `rows` have each model's published and its measured row, `by_seed` the measured values of each seed that all have.
    """

    block: str
    printed: Column
    measured: Column
    relation: Relation
    rows: tuple[tuple[Row, Row], ...]
    by_seed: dict[int, tuple[float, ...]]

    @property
    def published(self) -> list[float]:
        return [row.cells[self.printed.key].value or 0.0 for row, _ in self.rows]

    @property
    def values(self) -> list[float]:
        """The measured means."""
        return [row.cells[self.measured.key].value or 0.0 for _, row in self.rows]

    @cached_property
    def taus(self) -> list[float]:
        """Kendall's tau-b of each seed; none if any is not defined, as of too few models or of equal numbers."""
        found = [self._tau(values) for values in self.by_seed.values()]
        return [tau for tau in found if tau is not None] if None not in found else []

    @property
    def tau(self) -> float | None:
        """The mean over the seeds or, of fewer than two, that of the means; None if it is not defined."""
        return mean_and_spread(self.taus)[0] if len(self.taus) > 1 else self._tau(self.values)

    def _tau(self, values: Sequence[float]) -> float | None:
        return tau_b(self.published, values) if len(self.rows) >= LEAST_ROWS else None

    @property
    def interval(self) -> Interval | None:
        """Student's 95 % interval over at least two seeds, cut to what a tau may be."""
        if len(self.taus) < 2:
            return None
        low, high = interval_over_seeds(self.taus)
        return max(-1.0, low), min(1.0, high)

    @property
    def ranks(self) -> tuple[list[int], list[int]]:
        """The published and the measured rank of each model: 1 + how many numbers of that side are better."""
        better = self.printed.better or "lower"
        return _ranks(self.published, better), _ranks(self.values, better)


def tau_b(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Kendall's tau-b of two equally long sequences; None if either has but one value."""
    from scipy.stats import kendalltau  # which takes a second to import

    tau = float(kendalltau(a, b).statistic) if len(a) > 1 else math.nan
    return None if math.isnan(tau) else tau


def _ranks(values: Sequence[float], better: str) -> list[int]:
    return [1 + sum(value < own if better == "lower" else value > own for value in values) for own in values]


def orders(pairs: Iterable[Pair], columns: Iterable[tuple[Column, Column]]) -> list[Order]:
    """The orders of each block, metric and kind in which at least two models have both numbers.

    Conditional and unconditional models are never in one order, nor are bounds and exact values. A column that may not
    rank on these images has none.
    """
    by_block: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_block.setdefault(pair.printed.block, []).append(pair)
    found = []
    for block, members in by_block.items():
        for printed, measured in columns:
            for relation in ("", "<="):
                order = None if measured.unranked else _order(block, members, printed, measured, relation)
                found += [order] if order and len(order.rows) > 1 else []
    return found


def _order(block: str, pairs: list[Pair], printed: Column, measured: Column, relation: Relation) -> Order:
    rows = tuple(
        (pair.printed, row)
        for pair in pairs
        if (row := pair.only) is not None
        and (there := pair.printed.cells[printed.key]).value is not None
        and not doubt(row, here := row.cells[measured.key], measured)
        and there.relation == here.relation == relation
    )
    seeds = [_by_seed(row, row.cells[measured.key]) for _, row in rows]
    common = set.intersection(*map(set, seeds)) if seeds else set()
    by_seed = {seed: tuple(own[seed] for own in seeds) for seed in sorted(common)}
    return Order(block, printed, measured, relation, rows, by_seed)


def doubt(row: Row, cell: Cell, column: Column) -> str:
    """Why a measured number is in no order; "" if it is in one. A mean over the seeds that went well is in none."""
    if row.n_ok < row.n:
        return f"{row.n_ok} of {row.n} runs finished"
    if cell.value is None:
        return cell.note or "no value"
    if cell.relation == "~":
        return "an estimate"
    if row.copying and of_samples(column):
        return "its samples are copies"
    return cell.flag or (UNEQUAL if cell.unranked == UNEQUAL else "")


def left_out(pairs: Iterable[Pair], columns: Sequence[tuple[Column, Column]]) -> list[str]:
    """Why models that were run have no place in an order here, each reason once: `EBM and NLL test of SNGAN: ...`.

    No metric is named for those whose published numbers all have none.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for pair in pairs:
        name = pair.printed.name
        if len(pair.measured) > 1:
            found.setdefault(f"{len(pair.measured)} measured rows", {}).setdefault("", []).append(name)
        known = [both for both in columns if pair.printed.cells[both[0].key].value is not None]
        reasons: dict[str, list[str]] = {}
        for there, here in known if pair.only else ():
            if pair.only and (why := doubt(pair.only, pair.only.cells[here.key], here)):
                reasons.setdefault(why.rstrip("."), []).append(metric_words(there))
        for why, metrics in reasons.items():
            of = "" if len(metrics) == len(known) else f"{list_words(metrics)} of "
            found.setdefault(why, {}).setdefault(of, []).append(name)
    return [
        f"{' and '.join(of + list_words(names) for of, names in models.items())}: {why}"
        for why, models in found.items()
    ]


def _by_seed(row: Row, cell: Cell) -> dict[int, float]:
    """The values of the runs, by seed."""
    pairs = zip(row.seeds, cell.values)
    return {seed: value for seed, value in pairs if value is not None}
