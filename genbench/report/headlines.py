"""Who is ahead, by how much, at what cost, and how sure that is: the answer of each panel, and its rows beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from genbench.plots.panels import Panel, panels
from genbench.records.slots import Slot
from genbench.support.text import number
from genbench.tables.copying import memorising
from genbench.tables.footnotes import device_words, list_words
from genbench.tables.layout import Cell, Row, Table
from genbench.tables.ranking import LEAST_SEEDS
from genbench.tables.references import REFERENCE_ROWS
from genbench.tables.wording import value_text


@dataclass(frozen=True)
class Standing:
    """A row as the overview shows it; `ratio` is its FID as a multiple of the lowest, None if neither counts."""

    panel: Panel
    row: Row
    ratio: float | None = None

    @property
    def seconds_per_1000(self) -> float | None:
        rate = self.row.cells.get(Slot("images_per_second"), Cell()).value
        return 1000 / rate if rate else None


@dataclass(frozen=True)
class Headline:
    """The answer of one panel: the model with the lowest FID, what it cost, and how much the order can be trusted."""

    panel: Panel
    winner: str = ""
    value: str = ""
    protocol: str = ""
    margin: str = ""
    cost: str = ""
    scale: str = ""
    sure: str = ""
    memorised: str = ""
    rows: list[Standing] = field(default_factory=list)

    @property
    def title(self) -> str:
        return self.panel.title

    @property
    def column(self) -> str:
        return self.panel.column.heading


def headlines(tables: Iterable[Table]) -> list[Headline]:
    """One per group, block and extractor of the full tables.

    One none of whose models has an FID over all its seeds says so.
    """
    return [_headline(panel) for panel in panels(tables, "fid_test")]


def _headline(panel: Panel) -> Headline:
    measured = sorted((row for row in panel.rows if panel.cell(row).value is not None), key=lambda r: _value(panel, r))
    whole = [row for row in measured if panel.cell(row).n_ok == row.n]
    ranked = [row for row in measured if panel.cell(row).rank is not None]
    first = [row for row in whole if panel.cell(row).best] if ranked else whole
    if not first:
        sure = "No model has this FID for all its seeds and for all those that others were run with."
        return Headline(panel, scale=_scale(panel), sure=sure, memorised=_memorised(panel), rows=standings(panel, None))
    best = first[0]
    cell, tied = panel.cell(best), _tied(panel, best, whole)
    cost = "; ".join(f"{row.name}: {cost_words(row)}" for row in (best, *tied)) if tied else cost_words(best)
    return Headline(
        panel, best.name, value_text(cell, "fid"), cell.protocol, _margin(panel, best, whole), cost,
        _scale(panel), _sure(panel, best, whole, measured), _memorised(panel), standings(panel, cell.value),
    )  # fmt: skip


def standings(panel: Panel, lowest: float | None) -> list[Standing]:
    """The panel's rows in the table's order, between the references."""
    shown = [row for row in panel.table.rows if row.kind in REFERENCE_ROWS or row in panel.rows]
    return [Standing(panel, row, _ratio(panel, row, lowest)) for row in shown]


def _ratio(panel: Panel, row: Row, lowest: float | None) -> float | None:
    value = panel.cell(row).value
    return value / lowest if row.kind == "model" and value is not None and lowest and lowest > 0 else None


def _value(panel: Panel, row: Row) -> float:
    return panel.cell(row).value or 0.0


def _tied(panel: Panel, best: Row, whole: list[Row]) -> list[Row]:
    """The other rows that none is known to be better than."""
    return [row for row in whole if row is not best and panel.cell(row).best]


def _margin(panel: Panel, best: Row, whole: list[Row]) -> str:
    """`a tie with vae; ddpm, 118.0, is next: 1.42 times as high`; "" without a rival."""
    rivals = [row for row in whole if row is not best and _value(panel, row) >= _value(panel, best)]
    if not rivals:
        return ""
    tied = _tied(panel, best, whole)
    words = f"a tie with {list_words(row.name for row in tied)}; " if tied else ""
    ratio = _ratio(panel, rivals[0], _value(panel, best))
    times = f": {ratio:.3g} times as high" if ratio else ""
    return f"{words}{rivals[0].name}, {number(_value(panel, rivals[0]), 'fid')}, is next{times}"


def _scale(panel: Panel) -> str:
    """`On this scale, held-out real images score 20.9, training images 18.2 and noise 4,612.`"""
    words = {"real": "held-out real images score", "copies": "training images", "noise": "noise"}
    values = {kind: panel.reference(kind) for kind in words}
    found = [f"{words[kind]} {number(value, 'fid')}" for kind, value in values.items() if value is not None]
    return f"On this scale, {list_words(found)}." if found else ""


def _memorised(panel: Panel) -> str:
    """Whose samples are memorised more than real images are, in features, run by run; "" if nobody's."""
    told = {f"{row.name}: {words}" for row in panel.rows for record in row.records if (words := memorising(record))}
    return "; ".join(sorted(told))


def cost_words(row: Row) -> str:
    """What a model's training and sampling took, on what device."""
    costs = ("device_seconds", "flops", "images_per_second")
    seconds, flops, rate = (row.cells.get(Slot(cost), Cell()).value for cost in costs)
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
    sentences = []
    for row in measured:
        if _value(panel, row) < _value(panel, best) and not panel.cell(row).best:
            part = f"over the {row.n_ok} of {row.n} runs that finished" if row.n_ok < row.n else "over fewer seeds"
            sentences.append(f"{row.name} is lower {part}, and is therefore not counted.")
    rivals = [row for row in whole if row is not best]
    if not rivals:
        sentences.append("There is no other model to compare with.")
    elif min(best.n, max(row.n for row in rivals)) == 1:
        tied = [row.name for row in _tied(panel, best, whole)]
        sentences += [f"Within the single run, {list_words([best.name, *tied])} overlap: a tie."] if tied else []
        sentences.append("One seed per model: the order of close models may be due to the seed alone.")
    else:
        sentences.append(_how_known(panel, best, rivals))
    return " ".join(sentences)


def _how_known(panel: Panel, best: Row, rivals: list[Row]) -> str:
    """Which models tie with the best, or what sets the next one apart: a test, or intervals that prove nothing."""
    tied = [row.name for row in _tied(panel, best, rivals)]
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
