"""The entropy of a dataset whose distribution is known, and how far from it each model's likelihood is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from genbench.metrics import likelihood
from genbench.records.record import Entropy, Record
from genbench.records.slots import Slot
from genbench.tables.groups import is_reference
from genbench.tables.intervals import Interval
from genbench.tables.layout import Cell, Row

TEST, TRAIN, ELBO = Slot(likelihood.TEST), Slot(likelihood.TRAIN), Slot(likelihood.ELBO)
LIMIT, GAP, KIND, PARTS = map(Slot, ("limit", "limit_gap", "likelihood_kind", "likelihood_parts"))
"""Cells that only the likelihood layout has."""


def entropies_of(records: Iterable[Record]) -> list[Entropy]:
    """The entropies of the images of models' records, given what these condition on, bits/dim, each once."""
    told = [record.dataset.entropy for record in records if not is_reference(record)]
    return [entropy for i, entropy in enumerate(told) if entropy is not None and entropy not in told[:i]]


def entropy_of(row: Row) -> Entropy | None:
    """That of the images of a row's runs; of several the least certain."""
    return max(entropies_of(row.records), key=lambda entropy: entropy.error, default=None)


def doubted(row: Row) -> Row:
    """The row, with likelihoods flagged that are below what is possible by more than all known error.

    On test images that is the entropy, if it is known. On training images, which a model can know by heart, and if it
    is unknown, it is 0: levels have a probability, which is at most 1.
    """
    entropy = entropy_of(row)
    limits = {TEST: entropy, ELBO: entropy, TRAIN: None}
    flags = {key: _doubt(row.name, row.cells[key], limit) for key, limit in limits.items() if key in row.cells}
    return replace(row, cells=row.cells | {key: replace(row.cells[key], flag=flag) for key, flag in flags.items()})


def _doubt(name: str, cell: Cell, entropy: Entropy | None) -> str:
    """Why the value is impossible; "" if it is not."""
    least = entropy.bits_per_dim - entropy.error if entropy else 0.0
    if cell.value is None or cell.value + _error(cell) >= least:
        return ""
    floor = (
        f"the entropy of the test images' distribution, {entropy.bits_per_dim:.3f} ± {entropy.error:.3f}"
        if entropy
        else "0, as if levels had a probability above 1"
    )
    return f"{name}: {cell.value:.3f} bits/dim is below {floor}, by more than its error: impossible, and not ranked"


def _error(cell: Cell) -> float:
    """Half the 95 % interval: over seeds, and, since all seeds see the same images, the widest within a run as well."""
    if cell.value is None:
        return 0.0
    value = cell.value
    over_seeds = cell.interval[1] - value if cell.interval and cell.interval_of == "seeds" else 0.0
    in_runs = [high - own for own, (_, high) in _own(cell)]
    return math.hypot(over_seeds, max(in_runs, default=0.0))


def _own(cell: Cell) -> list[tuple[float, Interval]]:
    """Each run's value with its interval."""
    return [(value, own) for value, own in zip(cell.values, cell.ranges) if value is not None and own is not None]


def with_limit(row: Row) -> Row:
    """The row with the likelihood layout's own cells: limit, gap, kind and parts."""
    entropy = entropy_of(row)
    test, elbo = row.cells[TEST], row.cells.get(ELBO, Cell())
    prefix, parts = ("", test.parts) if test.parts else ("ELBO: ", elbo.parts)
    own = {
        KIND: Cell(printed=test.kind, kind=test.kind, n_ok=test.n_ok, n=test.n) if test.kind else _empty(test),
        PARTS: Cell(parts=parts, printed=parts_text(parts, prefix), n_ok=test.n_ok, n=test.n)
        if parts
        else _empty(test, "no parts were measured"),
    }
    if entropy:
        own |= {LIMIT: Cell(value=entropy.bits_per_dim, spread=entropy.error, kind="exact"), GAP: _gap(test, entropy)}
    return replace(row, cells=row.cells | own)


def _empty(cell: Cell, note: str = "") -> Cell:
    """A dash for the reason that the likelihood is one, or for its own."""
    return Cell(n=cell.n, status="not_measured", note=note) if cell.value is not None else replace(cell, values=())


def parts_text(parts: dict[str, float], prefix: str = "") -> str:
    """`L_T 0.001 + L_t 1.200 + L_0 0.210`."""
    return prefix + " + ".join(f"{name} {value:.3f}" for name, value in parts.items())


def _gap(test: Cell, entropy: Entropy) -> Cell:
    """The likelihood minus the limit; its interval is widened by the limit's own error."""
    if test.value is None:
        return _empty(test)
    low, high = test.interval or (test.value, test.value)
    limit, error = entropy.bits_per_dim, entropy.error
    return replace(
        test, value=test.value - limit, interval=(low - limit - error, high - limit + error), parts={},
        values=tuple(None if value is None else value - limit for value in test.values), ranges=(), note="",
    )  # fmt: skip
