"""What the pages say in words: who is ahead, at what cost, how sure; and the settings and failures behind it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from genbench.columns import COSTS, OVERALL
from genbench.footnotes import budget_words, device_words, list_words
from genbench.groups import flatten, is_reference
from genbench.layout import Cell, Row, Table
from genbench.plots import Panel, panels
from genbench.ranking import LEAST_SEEDS
from genbench.records import Record
from genbench.wording import number, value_text

MOST_NAMED = 8
"""Models behind the first one."""


@dataclass(frozen=True)
class Headline:
    """The answer of one panel: the model with the lowest FID, what it cost, and how much the order can be trusted."""

    title: str
    column: str
    winner: str
    value: str
    protocol: str
    cost: str
    others: str
    scale: str
    sure: str


def headlines(tables: Iterable[Table]) -> list[Headline]:
    """One a group, block and extractor of the full tables.

    One none of whose models has an FID over all its seeds says so.
    """
    return [_headline(panel) for panel in panels(tables, "fid_test")]


def _headline(panel: Panel) -> Headline:
    measured = sorted((row for row in panel.rows if panel.cell(row).value is not None), key=lambda r: _value(panel, r))
    whole = [row for row in measured if panel.cell(row).n_ok == row.n]
    ranked = [row for row in measured if panel.cell(row).rank is not None]
    first = [row for row in whole if panel.cell(row).best] if ranked else whole
    title, column, scale = panel.title, panel.column.heading, _scale(panel)
    if not first:
        sure = "No model has this FID for all of its seeds, and for all that others were run with."
        return Headline(title, column, "", "", "", "", "", scale, sure)
    best = first[0]
    cell = panel.cell(best)
    behind = [f"{row.name} {number(_value(panel, row), 'fid')}" for row in whole if row is not best]
    more = [f"and {len(behind) - MOST_NAMED} more"] if len(behind) > MOST_NAMED else []
    others = ", ".join([*behind[:MOST_NAMED], *more])
    return Headline(
        title, column, best.name, value_text(cell, "fid"), cell.protocol, cost_words(best), others, scale,
        _sure(panel, best, whole, measured),
    )  # fmt: skip


def _value(panel: Panel, row: Row) -> float:
    return panel.cell(row).value or 0.0


def _scale(panel: Panel) -> str:
    """`Held-out real images score 20.9, noise 4,612.`"""
    words = {"real": "held-out real images score", "noise": "noise"}
    values = {kind: panel.reference(kind) for kind in words}
    found = [f"{words[kind]} {number(value, 'fid')}" for kind, value in values.items() if value is not None]
    return f"On this scale, {' and '.join(found)}." if found else ""


def cost_words(row: Row) -> str:
    """What a model's training and sampling took, on what device."""
    cells = {key: row.cells.get(key, Cell()) for key in COSTS}
    seconds, flops, rate = (cells[key].value for key in ("device_seconds", "flops", "images_per_second"))
    words = [
        f"{number(seconds, 'seconds')} device-seconds of training"
        if seconds is not None
        else "training time not measured"
    ]
    words += [f"{number(flops, 'flops')} FLOPs"] if flops is not None else []
    words += [f"{number(1000 / rate, 'rate')} s per 1,000 samples"] if rate else []
    return f"{', '.join(words)}, on {device_words(row.records[0])}"


def _sure(panel: Panel, best: Row, whole: list[Row], measured: list[Row]) -> str:
    """How far the first place can be trusted."""
    told = []
    for row in measured:
        if _value(panel, row) < _value(panel, best) and not panel.cell(row).best:
            part = f"over the {row.n_ok} of {row.n} runs that finished" if row.n_ok < row.n else "over fewer seeds"
            told.append(f"{row.name} is lower {part}, and is therefore not counted.")
    rivals = [row for row in whole if row is not best]
    if not rivals:
        told.append("There is no other model to compare with.")
    elif min(best.n, max(row.n for row in rivals)) == 1:
        tied = [row.name for row in rivals if panel.cell(row).best]
        told += [f"Within the one run, {list_words([best.name, *tied])} overlap: a tie."] if tied else []
        told.append("One seed a model: the order of close models may be due to the seed alone.")
    else:
        told.append(_how_known(panel, best, rivals))
    return " ".join(told)


def _how_known(panel: Panel, best: Row, rivals: list[Row]) -> str:
    """Which models tie with the best, or how the next one is told from it: by a test, or by intervals without claim."""
    tied = [row.name for row in rivals if panel.cell(row).best]
    against = list_words(tied or [rivals[0].name])
    pairs = [p for key, block, p in panel.table.pairs if key == panel.column.key and block == panel.block]
    tests = [p for p in pairs if best.name in (p.a, p.b) and {p.a, p.b} & {*(tied or [rivals[0].name])}]
    if tests:
        sure = "no significant difference: a tie" if tied else "a significant difference"
        lowest = min(p.p_corrected for p in tests)
        return (
            f"{best.name} against {against}, paired t-test over {tests[0].seeds} seeds after Holm's correction: "
            f"{sure} (p {'≥' if len(tests) > 1 else '='} {lowest:.2g})."
        )
    how = "overlap: a tie" if tied else "do not overlap"
    return (
        f"Over {best.n} seeds the 95 % intervals of {best.name} and {against} {how}. "
        f"No claim of significance: fewer than {LEAST_SEEDS} seeds in common."
    )


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
    return [record for record in records if record.status != "complete"]


@dataclass(frozen=True)
class Shared:
    """Settings that several runs have in common, and those runs."""

    label: str
    words: dict[str, str]
    records: list[Record]


def environments(records: Iterable[Record]) -> list[Shared]:
    """The distinct environments that models ran in, plugins apart."""
    return _shared(
        (record, "", environment_words(record, {"plugin"})) for record in records if not is_reference(record)
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
    plugin = record.environment.plugin
    words = {"model": record.job.model, "plugin": f"{plugin.name} {plugin.version}", "budget": budget_words(record)}
    words |= {"precision": record.job.precision, "conditional": plain_words(record.job.conditional)}
    words |= {"compile": plain_words(True)} if record.job.compile else {}
    return words | _told(record.job.config)


def environment_words(record: Record, without: set[str] | None = None) -> dict[str, str]:
    return _told(record.environment.model_dump(mode="json", exclude=without))


def _told(settings: dict[str, Any]) -> dict[str, str]:
    """Nested settings as words, those without a value left out."""
    return {key: plain_words(value) for key, value in flatten(settings).items() if value not in (None, "")}


def run_rows(record: Record) -> dict[str, dict[str, str]]:
    """A run's settings, costs and environment as tables of words."""
    cost = {
        heading: number(value, style)
        for key, (heading, style, read) in COSTS.items()
        if key not in OVERALL and (value := read(record)) is not None
    }
    if record.cost.train and record.cost.train.peak_source:
        cost["peak memory of"] = record.cost.train.peak_source
    if record.cost.train and record.cost.train.uncounted_ops:
        cost["FLOPs leave out"] = ", ".join(record.cost.train.uncounted_ops)
    if record.cost.evaluate:
        cost["evaluation seconds"] = number(record.cost.evaluate.seconds, "seconds")
    return {
        "Cost": cost,
        "Settings": {} if is_reference(record) else job_words(record),
        "Dataset": _told(record.dataset.model_dump(mode="json")),
        "Samples": _told(record.samples.model_dump(mode="json")),
        "Environment": environment_words(record),
    }
