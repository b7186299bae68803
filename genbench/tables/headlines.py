"""Who is ahead, by how much, at what cost, and how sure that is: the answer of each panel, and its rows beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from genbench.metrics import metric_named, metrics_in
from genbench.records.slots import Slot
from genbench.support.text import list_words, number
from genbench.tables.copying import memorising
from genbench.tables.cost_notes import device_words
from genbench.tables.layout import Cell, Row, Table
from genbench.tables.panels import Panel, leading_panels
from genbench.tables.ranking import LEAST_SEEDS
from genbench.tables.standings import UNEQUAL, of_samples
from genbench.tables.wording import metric_words, value_text


@dataclass(frozen=True)
class Standing:
    """A row as the overview shows it; `ratio` is its value as a multiple of the best, None if neither counts."""

    panel: Panel
    row: Row
    ratio: float | None = None

    @property
    def seconds_per_1000(self) -> float | None:
        rate = self.row.cells.get(Slot("images_per_second"), Cell()).value
        return 1000 / rate if rate else None


@dataclass(frozen=True)
class Headline:
    """The answer of one panel: the model with the best value, what it cost, and how much the order can be trusted.

    `ruler` says which metrics may not rank, and so did not decide; `memorised` whose samples are too near to training
    images.
    """

    panel: Panel
    winner: str = ""
    value: str = ""
    protocol: str = ""
    margin: str = ""
    cost: str = ""
    scale: str = ""
    doubts: tuple[str, ...] = ()
    ruler: str = ""
    memorised: str = ""
    rows: list[Standing] = field(default_factory=list)

    @property
    def sure(self) -> str:
        """How far the first place can be trusted, or why there is none."""
        return " ".join(self.doubts)

    @property
    def title(self) -> str:
        return self.panel.title

    @property
    def sentence(self) -> str:
        """`gan has the lowest FID test, 83.40; ddpm, 118.0, is next: 1.41 times as high.`, or why nobody wins."""
        if not self.winner:
            return f"No winner. {self.sure}"
        if self.alone:
            return f"{self.winner} has no rival; its {self.metric} is {self.value}."
        among = {None: "", "": " of the exact values", "<=": " of the bounds"}[self.panel.relation]
        margin = f"; {self.margin}" if self.margin else ""
        return f"{self.winner} has the {self.best} {self.metric}{among}, {self.value}{margin}."

    @property
    def column(self) -> str:
        return self.panel.column.heading

    @property
    def alone(self) -> bool:
        """Whether no other model has a value."""
        return sum(self.panel.cell(row).value is not None for row in self.panel.rows) == 1

    @property
    def best(self) -> str:
        """Which values are best: `lowest` or `highest`."""
        return "highest" if _higher(self.panel) else "lowest"

    @property
    def metric(self) -> str:
        """`FID test`."""
        return metric_words(self.panel.column)


def headlines(tables: Iterable[Table]) -> list[Headline]:
    """One per group, block and extractor of the tables, by FID or the next metric that may rank.

    One none of whose models has a value over all its seeds says so, and so does one in which nothing may rank.
    """
    return [_headline(panel) for panel in leading_panels(tables)]


def _headline(panel: Panel) -> Headline:
    measured = [row for row in panel.rows if panel.cell(row).value is not None]
    measured.sort(key=lambda row: _value(panel, row), reverse=_higher(panel))
    whole = [row for row in measured if panel.contends(row)]
    ranked = [row for row in whole if panel.cell(row).rank is not None]
    first = [row for row in whole if panel.cell(row).best] if ranked else whole
    told = {"scale": _scale(panel), "ruler": _ruler(panel), "memorised": _memorised(panel)}
    if not first:
        return Headline(panel, doubts=(_no_winner(panel, measured),), rows=standings(panel, None), **told)
    best = first[0]
    cell, tied = panel.cell(best), _tied(panel, best, whole)
    cost = "; ".join(f"{row.name}: {cost_words(row)}" for row in (best, *tied)) if tied else cost_words(best)
    return Headline(
        panel, best.name, value_text(cell, _style(panel)), cell.protocol, _margin(panel, best, whole), cost,
        doubts=tuple(_doubts(panel, best, whole, measured)), rows=standings(panel, cell.value), **told,
    )  # fmt: skip


def _no_winner(panel: Panel, measured: list[Row]) -> str:
    if measured and all(panel.cell(row).unranked == UNEQUAL for row in measured):
        return f"None is ranked ({', '.join(row.name for row in measured)}): {UNEQUAL}."
    if panel.column.unranked:
        return "No metric of these features that could name a winner may rank on these images."
    if measured and all(row.copying for row in measured):
        return f"{list_words(row.name for row in measured)} copies the dataset's images, and nothing else was measured."
    heading = metric_named(panel.column.metric).heading.removesuffix(" test")
    return f"No model has this {heading} for all its seeds and for all those that others were run with."


def _ruler(panel: Panel) -> str:
    """`FID test is not ranked: ...; KID test decides instead.`; "" if FID may rank."""
    own = {c.metric: c for c in panel.table.columns if c.extractor == panel.column.extractor}
    refused: dict[str, list[str]] = {}
    for metric in metrics_in("headline"):
        if metric in own and own[metric].unranked:
            refused.setdefault(own[metric].unranked.rstrip("."), []).append(metric_named(metric).heading)
    told = [f"{list_words(names)} {'are' if names[1:] else 'is'} not ranked: {why}" for why, names in refused.items()]
    decides = [] if panel.column.unranked else [f"{metric_named(panel.column.metric).heading} decides instead"]
    return "; ".join([*told, *decides]) + "." if told else ""


def _higher(panel: Panel) -> bool:
    return panel.column.better == "higher"


def _style(panel: Panel) -> str:
    return panel.column.styles[0]


def standings(panel: Panel, lowest: float | None) -> list[Standing]:
    """The panel's rows in the table's order, between the references."""
    shown = [row for row in panel.table.rows if row.is_reference or row in panel.rows]
    return [Standing(panel, row, _ratio(panel, row, lowest)) for row in shown]


def _ratio(panel: Panel, row: Row, lowest: float | None) -> float | None:
    value = panel.cell(row).value
    counts = row.kind == "model" and not row.copying
    return value / lowest if counts and value is not None and lowest and lowest > 0 else None


def _value(panel: Panel, row: Row) -> float:
    return panel.cell(row).value or 0.0


def _tied(panel: Panel, best: Row, whole: list[Row]) -> list[Row]:
    """The other rows that none is known to be better than."""
    return [row for row in whole if row is not best and panel.cell(row).best]


def _margin(panel: Panel, best: Row, whole: list[Row]) -> str:
    """`a tie with vae; ddpm, 118.0, is next: 1.42 times as high`; "" without a rival."""
    rivals = [row for row in whole if row is not best and not _ahead(panel, row, best)]
    if not rivals:
        return ""
    tied = _tied(panel, best, whole)
    words = f"a tie with {list_words(row.name for row in tied)}; " if tied else ""
    ratio = _ratio(panel, rivals[0], _value(panel, best))
    times = f": {ratio:.3g} times as high" if ratio else ""
    return f"{words}{rivals[0].name}, {number(_value(panel, rivals[0]), _style(panel))}, is next{times}"


def _ahead(panel: Panel, row: Row, other: Row) -> bool:
    """Whether a row's value is better than another's, whatever their errors."""
    ours, theirs = _value(panel, row), _value(panel, other)
    return ours > theirs if _higher(panel) else ours < theirs


def _scale(panel: Panel) -> str:
    """`On this scale, held-out real images score 20.9 and noise 4,612.`; also why there is no floor, if it is known."""
    words = {"real": "held-out real images", "copies": "copies of training images", "noise": "noise"}
    cells = {kind: cell for kind in words if (cell := panel.reference(kind)) is not None}
    values = {kind: number(cell.value, _style(panel)) for kind, cell in cells.items() if cell.value is not None}
    verb = "scores" if list(values) == ["noise"] else "score"
    told = [f"{words[kind]} {f'{verb} ' if not i else ''}{value}" for i, (kind, value) in enumerate(values.items())]
    sentences = [f"On this scale, {list_words(told)}."] if told else []
    if "real" in cells and "real" not in values:
        sentences.append(f"There is no floor: {cells['real'].note.rstrip('.')}.")
    return " ".join(sentences)


def _memorised(panel: Panel) -> str:
    """Whose samples are memorised more than real images are, in features; "" if nobody's."""
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


def _doubts(panel: Panel, best: Row, whole: list[Row], measured: list[Row]) -> list[str]:
    """How far the first place can be trusted."""
    sentences = []
    for row in measured:
        if _ahead(panel, row, best) and not panel.cell(row).best:
            further = "higher" if _higher(panel) else "lower"
            sentences.append(f"{row.name} is {further}{_discount(panel, row)}, and is therefore not counted.")
        elif panel.cell(row).unranked == UNEQUAL:
            sentences.append(f"{row.name} is not compared: {UNEQUAL}.")
    rivals = [row for row in whole if row is not best]
    if not rivals:
        sentences.append("There is no other model to compare with.")
    elif min(best.n, max(row.n for row in rivals)) == 1:
        tied = [row.name for row in _tied(panel, best, whole)]
        sentences += [f"Within the single run, {list_words([best.name, *tied])} overlap: a tie."] if tied else []
        lone = [row.name for row in (best, *rivals) if row.n == 1]
        of = "per model" if len(lone) > len(rivals) else f"of {list_words(lone)}"
        sentences.append(f"One seed {of}: the order of close models may be due to the seed alone.")
    else:
        sentences.append(_how_known(panel, best, rivals))
    return sentences


def _discount(panel: Panel, row: Row) -> str:
    """Why a row with a better value is not ahead."""
    if row.copying and of_samples(panel.column):
        return f", but {row.copying.rstrip('.')}"
    if panel.cell(row).flag:
        return ", which is impossible"
    if why := panel.cell(row).unranked:
        return f", but {why}"
    return f" over the {row.n_ok} of {row.n} runs that finished" if row.n_ok < row.n else " over fewer seeds"


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
