"""What the pages say of protocols, settings, environments, failures, and of what each model can do."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from genbench.metrics import is_likelihood
from genbench.records.class_names import listed
from genbench.records.cost import TrainCost
from genbench.records.record import Record
from genbench.records.slots import flatten
from genbench.support.text import DASH, number
from genbench.tables.columns import OF_RUN
from genbench.tables.groups import is_reference
from genbench.tables.layout import Table

LIKELIHOOD = "likelihood"


@dataclass(frozen=True)
class Protocol:
    """One protocol as the page shows it; `anchor` is where its numbers link to."""

    id: str
    anchor: str
    title: str
    settings: dict[str, str]


def number_protocols(tables: Iterable[Table]) -> dict[str, Protocol]:
    """Every protocol behind the tables, by its id."""
    found: dict[str, Protocol] = {}
    for table in tables:
        for column in table.columns:
            for row in table.rows:
                key = row.cells[column.key].protocol
                if key and key not in found:
                    plain = {name: plain_words(value) for name, value in flatten(table.protocols.get(key, {})).items()}
                    found[key] = Protocol(key, f"protocol-{len(found) + 1}", column.heading, plain)
    return found


def plain_words(value: Any) -> str:
    """A setting's value as words: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def failures(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record.status != "complete" and not record.under_way]


@dataclass(frozen=True)
class Shared:
    """Settings that several runs have in common, and those runs."""

    label: str
    words: dict[str, str]
    records: list[Record]


def environments(records: Iterable[Record]) -> list[Shared]:
    """The distinct environments that models ran in, plugins apart."""
    return _shared(
        (record, "", environment_words(record, {"plugin"}))
        for record in records
        if not (is_reference(record) or record.under_way)
    )


def settings(records: Iterable[Record]) -> list[Shared]:
    """The distinct configurations of each label."""
    return _shared((record, record.job.label, job_words(record)) for record in records if not is_reference(record))


def _shared(described: Iterable[tuple[Record, str, dict[str, str]]]) -> list[Shared]:
    found: dict[tuple[str, str], Shared] = {}
    for record, label, words in described:
        found.setdefault((label, json.dumps(words, sort_keys=True)), Shared(label, words, [])).records.append(record)
    return list(found.values())


def job_words(record: Record) -> dict[str, str]:
    """A job's choices and its model's configuration."""
    words = {
        "model": record.job.model,
        "plugin": str(record.environment.plugin),
        "budget": record.job.budget.words(),
    }
    words |= {"precision": record.job.precision, "conditional": plain_words(record.job.conditional)}
    words |= {"condition": record.job.block} if record.job.condition else {}
    words |= {"compile": plain_words(True)} if record.job.compile else {}
    return words | _words(record.job.config)


def environment_words(record: Record, without: set[str] | None = None) -> dict[str, str]:
    return _words(record.environment.model_dump(mode="json", exclude=without))


def _words(settings: dict[str, Any]) -> dict[str, str]:
    """Nested settings as words, those without a value left out."""
    return {key: plain_words(value) for key, value in flatten(settings).items() if value not in (None, "")}


def run_rows(record: Record) -> dict[str, dict[str, str]]:
    """A run's settings, costs and environment as tables of words."""
    cost = {
        heading: number(value, style)
        for key, (heading, style, read) in OF_RUN.items()
        if (value := read(record)) is not None
    }
    if record.cost.train and record.cost.train.peak_source:
        cost["peak memory of"] = record.cost.train.peak_source
    cost |= _usage_words(record.cost.train)
    if record.cost.train and record.cost.train.trained_by:
        cost["training shared with"] = record.cost.train.trained_by
    if record.cost.train and record.cost.train.uncounted_ops:
        cost["FLOPs leave out"] = ", ".join(record.cost.train.uncounted_ops)
    if record.cost.evaluate:
        cost["evaluation seconds"] = number(record.cost.evaluate.seconds, "seconds")
    return {
        "Cost": cost,
        "Settings": {} if is_reference(record) else job_words(record),
        "Dataset": _words(record.dataset.model_dump(mode="json") | {"classes": listed(record.dataset.classes)}),
        "Samples": {} if record.under_way else _words(record.samples.model_dump(mode="json")),
        "Environment": environment_words(record),
    }


def _usage_words(train: TrainCost | None) -> dict[str, str]:
    """What a training had of its machine, as far as it was recorded."""
    usage = train.usage if train else None
    if train is None or usage is None or not train.seconds:
        return {}
    words = {"training stopped, not counted": (usage.stopped_seconds, f" s in {usage.stops}")} if usage.stops else {}
    words |= {"gaps between steps": (usage.gap_seconds, f" s in {usage.gaps}")} if usage.gaps else {}
    told = {name: f"{number(seconds, 'seconds')}{rest}" for name, (seconds, rest) in words.items()}
    if usage.processor_seconds is not None:
        told["training processor-seconds"] = number(usage.processor_seconds, "seconds")
    if usage.share is not None:
        told["of what its threads could use"] = f"{100 * usage.share:.0f} %"
    if (others := usage.others(train.seconds)) is not None:
        told["processors used by others"] = f"{others:.2f}"
    return told


def abilities(records: Iterable[Record]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """The abilities that any model has, and by label what each can do: `yes`, `no`, a kind of likelihood, or a dash.

    A dash: its records were written by a version that did not say.
    """
    able: dict[str, set[str] | None] = {}
    kinds: dict[str, set[str]] = {}
    for record in records:
        if is_reference(record):
            continue
        label = record.job.label
        known = able.setdefault(label, None)
        if record.capabilities is not None:
            able[label] = (known or set()) | set(record.capabilities)
        measured = {m.kind for m in record.measurements if is_likelihood(m.metric) and m.value is not None}
        kinds.setdefault(label, set()).update(measured)
    names = [LIKELIHOOD, *sorted({name for known in able.values() for name in known or ()} - {LIKELIHOOD})]
    return names, {label: {name: _able(name, able[label], kinds[label]) for name in names} for label in sorted(able)}


def _able(name: str, known: set[str] | None, kinds: set[str]) -> str:
    if name == LIKELIHOOD and kinds:
        return ", ".join(sorted(kinds))
    return DASH if known is None else "yes" if name in known else "no"
