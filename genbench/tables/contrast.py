"""What keeps measured numbers apart from the published ones beside them: data, features, samples, budget, network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from genbench.metrics import metric_named
from genbench.records.slots import sample_count
from genbench.support.parts import FIRST_STAGE
from genbench.support.text import list_words, number
from genbench.tables.cost_notes import budgets_of, device_words
from genbench.tables.layout import Column, Row
from genbench.tables.pairs import Pair
from genbench.tables.parts import parameters_of, phases_of, spent_on
from genbench.tables.published import published
from genbench.tables.published.facts import Facts

PARAMETERS = "parameters"


def contrast(pairs: Sequence[Pair], columns: Sequence[tuple[Column, Column]], name: str) -> Iterator[str]:
    """How the measured numbers of these rows came about, each topic beside what is known of the published ones."""
    rows = [row for pair in pairs for row in pair.measured]
    records = [record for row in rows for record in row.records]
    if not records:
        return
    facts = published(name).facts
    there, stamp = facts.setting, records[0].dataset
    shape = " x ".join(map(str, stamp.shape))
    yield f"Images: paper: {there['data']}, here: {stamp.name} ({stamp.counts['train']:,} training images, {shape})."
    yield from _scores(rows, columns, there, "held-out images" if stamp.tuning else "test images")
    devices = list_words(sorted({device_words(record) for record in records}))
    budgets = list_words(budgets_of(records)) or "not told"
    yield f"Budget: paper: {there['budget']}, here: {budgets}, on {devices}."
    if facts.cost:
        yield from _costs(rows, facts.cost, devices)
    yield from _networks(pairs, facts)


def _scores(
    rows: list[Row], columns: Sequence[tuple[Column, Column]], there: Mapping[str, str], test: str
) -> Iterator[str]:
    """In what features, against what and over how many samples IS and FID were computed; `test`: the images apart."""
    measured = [column for _, column in columns if column.extractor]
    if not measured:
        return
    yield f"Features: paper: {there['features']}, here: {measured[0].extractor}."
    against = {"fid_train": "training images", "fid_test": test}
    fids = [against[column.metric] for column in measured if column.metric in against]
    if fids:
        same = fids[0] == there["reference"]
        both = f"against {fids[0]} in both" if same else f"paper: against {there['reference']}, here: {fids[0]}"
        yield f"FID: {both}."
    drawn = [column for column in measured if metric_named(column.metric).of_samples]
    counts = {count for column in drawn for row in rows if (count := _samples(row, column))}
    if counts:
        yield f"Samples: paper: {there['samples']}, here: {', '.join(f'{count:,}' for count in sorted(counts))}."


def _samples(row: Row, column: Column) -> int:
    """How many generated images are behind a number."""
    cell = row.cells[column.key]
    protocols = (record.protocols.get(cell.protocol, {}) for record in row.records)
    return max([cell.count, *map(sample_count, protocols)]) if cell.value is not None else 0


def _costs(rows: Sequence[Row], there: Mapping[str, str], devices: str) -> Iterator[str]:
    """How compute and speed were counted, and where the first stage went."""
    records = [record for row in rows for record in row.records]
    bases = sorted({record.cost.train.v100_basis for record in records if record.cost.train} - {""})
    days = f"device-seconds, {list_words(bases)}" if bases else "none, as no factor was given (--v100-factor)"
    yield f"V100-days: paper: {there['compute']}, here: {days}."
    batches = sorted({record.cost.sample.batch for record in records if record.cost.sample})
    if batches:
        here = f"on {devices}, batch {list_words(map(str, batches))}, up to 8-bit images"
        yield f"samples/s: paper: {there['speed']}, here: {here}."
    if shares := [words for row in rows if (words := _first_stage(row))]:
        yield f"First stage: paper: {there['first_stage']}, here: in both ({'; '.join(shares)})."


def _first_stage(row: Row) -> str:
    """`LDM-8, 100 steps 25 % of the compute, 55.3 M`: what the first stage of a row took and has; "" without one."""
    wholes = [record for record in row.records if phases_of(record, FIRST_STAGE) and record.cost.train]
    if not wholes:
        return ""
    own = math.fsum(spent_on(record, FIRST_STAGE, "device_seconds") or 0.0 for record in wholes)
    all_ = math.fsum(record.cost.train.device_seconds for record in wholes if record.cost.train)
    size = number(parameters_of(wholes[0], FIRST_STAGE), "si")
    return f"{row.name} {100 * own / max(all_, own, 1e-9):.0f} % of the compute, {size}"


def _networks(pairs: Sequence[Pair], facts: Facts) -> Iterator[str]:
    """The parameters of each model whose published number is known, and the range of the others."""
    told: list[str] = []
    others: list[float] = []
    for pair in pairs:
        known = _published_parameters(pair.printed, facts)
        own = sorted({size for row in pair.measured for record in row.records if (size := record.cost.parameters)})
        if known and own:
            here = "–".join(number(size, "si") for size in dict.fromkeys((own[0], own[-1])))
            told.append(f"{pair.printed.name} {number(known, 'si')}, here: {here}")
        else:
            others += own
    if others:
        span = "–".join(number(size, "si") for size in dict.fromkeys((min(others), max(others))))
        told.append(f"not printed{' for the others' if told else ''}, here: {span}")
    if told:
        yield f"Parameters: paper: {'; '.join(told)}."


def _published_parameters(printed: Row, facts: Facts) -> float | None:
    cell = next((cell for slot, cell in printed.cells.items() if slot.metric == PARAMETERS), None)
    return cell.value if cell else facts.of(printed.name, bool(printed.conditional)).parameters
