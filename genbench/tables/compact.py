"""A table for a terminal or a page: a line per row, as many columns as there is room for, and what misleads in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from genbench.metrics.likelihood import TEST
from genbench.records.slots import Slot
from genbench.support.text import DASH, list_words, printable
from genbench.tables.columns import open_cost
from genbench.tables.cost_notes import budgets_of
from genbench.tables.filled import is_filled
from genbench.tables.grid import LONGEST_NAME, Entry, Grid, Ink, heading_lines
from genbench.tables.headlines import Headline, headlines
from genbench.tables.layout import Cell, Column, Row, Table
from genbench.tables.layouts import CHOSEN, FULL
from genbench.tables.panels import blocks_of, title_of
from genbench.tables.pressing import pressing, rank_deficient
from genbench.tables.wording import WITHOUT_ERROR, has_value, heading_text, metric_words, row_marks, value_text

IN_RUN = " se"
"""What follows an error within a single run."""
LEAST_NAME, FIRST = 12, 3
"""Characters that a name keeps when it gives way to the first columns, and how many these are."""
LEAST_HEADING, LEAST_WORD = 10, 5
"""Characters of a line of a heading, and of one in a table of pairs, whose columns are many."""
MOST_NOTES = 12
LATER = (
    "images_per_second", "flops", "precision", "recall", "kid_test", "inception_score", "parameters", "fid_train",
    "train_seconds",
)  # fmt: skip
"""What comes in, in this order, after what ranks, FID, bits/dim and what training costs beside its budget."""
DIGITS = 2
"""Significant digits of an error."""


@dataclass(frozen=True)
class Compact:
    """A table with its columns in the order of their importance, of which a format shows those that fit."""

    table: Table
    heads: list[Headline]
    columns: tuple[Column, ...]

    @property
    def asked(self) -> bool:
        """Whether these columns were asked for, by name or in pairs, so that none is left out."""
        return self.table.layout == CHOSEN or self.table.paired

    @cached_property
    def leads(self) -> dict[str, Column]:
        """The column that ranks the models of each block."""
        return {head.panel.block: head.panel.column for head in reversed(self.heads)}

    @cached_property
    def blocks(self) -> list[tuple[str, list[Row]]]:
        """The rows, under headings if there are several."""
        told = any(row.copying for row in self.table.rows) or any(head.memorised for head in self.heads)
        rows = [row for row in self.table.rows if told or row.kind != "copies"]
        if len({row.block for row in rows} - {""}) < 2:
            return [("", rows)]
        return [(block, kept) for block, some in self.table.blocks if (kept := [row for row in some if row in rows])]

    @property
    def rows(self) -> list[Row]:
        return [row for _, rows in self.blocks for row in rows]

    @cached_property
    def models(self) -> list[Row]:
        return [row for row in self.rows if row.kind == "model"]

    @cached_property
    def errors(self) -> set[str]:
        """Of what the errors that are shown are: over `seeds`, within a `run`; a table of pairs has no room for any."""
        found: set[str] = set()
        for column in self.columns if not self.table.paired else ():
            for key, style in zip(column.keys, column.styles):
                for cell in (row.cells[key] for row in self.rows if style not in WITHOUT_ERROR):
                    found |= {"seeds"} if cell.spread is not None else {"run"} if cell.stderr is not None else set()
        return found

    @property
    def several_extractors(self) -> bool:
        return len({column.extractor for column in self.columns if column.extractor}) > 1

    @property
    def fixed(self) -> int:
        """How many columns stand before those of the table: rank, model, seeds."""
        return 1 + self._has_ranks + self._has_seeds

    @property
    def name_column(self) -> int:
        return int(self._has_ranks)

    @cached_property
    def _has_ranks(self) -> bool:
        return any(row.cells[self.leads[row.block].key].rank for row in self.models if row.block in self.leads)

    @cached_property
    def _has_seeds(self) -> bool:
        return any(row.n != 1 for row in self.models)

    def title(self) -> str:
        """`digits, unconditional: 1,000 samples, features of digits-classifier-v1, 60 seconds of training`."""
        blocks = blocks_of(self.table)
        facts = []
        lead = next(iter(self.leads.values()), None)
        counts = {row.cells[lead.key].count for row in self.rows} - {0} if lead and lead.extractor else set()
        if len(counts) == 1:
            facts.append(f"{counts.pop():,} samples")
        extractors = {column.extractor for column in self.columns if column.extractor}
        if len(extractors) == 1:
            facts.append(f"features of {extractors.pop()}")
        budgets = budgets_of(record for row in self.models for record in row.records)
        if len(budgets) == 1:
            facts.append(f"{budgets[0]} of training")
        what = title_of(self.table, blocks[0] if len(blocks) == 1 else "")
        return f"{what}: {', '.join(facts)}" if facts else what

    def grid(self, ink: Ink, count: int, longest: int) -> Grid:
        """The first `count` columns in a format's ink; lines of a heading are apart by line breaks."""
        shown = self.columns[:count]
        short = dict(zip((row.name for row in self.rows), shortened_names((row.name for row in self.rows), longest)))
        grid = Grid(ink, [])
        for block, rows in self.blocks:
            lines = [self._line(grid, row, short[row.name], shown) for row in rows]
            grid.blocks.append((ink.escape(printable(block)), lines))
        fixed = ["#"] * self._has_ranks + ["model"] + ["seeds"] * self._has_seeds
        grid.headings = [ink.escape(word) for word in fixed]
        for i, column in enumerate(shown, len(fixed)):
            size = max(len(text) for _, lines in grid.blocks for line in lines for text in line[i])
            least = LEAST_WORD if self.table.paired else LEAST_HEADING
            lines_of = heading_lines(printable(self.heading(column), "\xa0"), max(size, least), hyphens=False)
            grid.headings.append("\n".join(map(ink.escape, lines_of)))
        return grid

    def heading(self, column: Column) -> str:
        """`FID test ↓`, with the extractor if there are several."""
        words = column.heading if not column.metric or len(column.keys) > 1 else metric_words(column)
        words = "bits/dim" if column.keys == (Slot(TEST),) and not self.table.paired else words
        extractor = f" ({column.extractor})" if column.extractor and self.several_extractors else ""
        return heading_text(replace(column, heading=words + extractor))

    def _line(self, grid: Grid, row: Row, name: str, shown: Iterable[Column]) -> list[Entry]:
        lead = self.leads.get(row.block) if row.kind == "model" else None
        cell = row.cells[lead.key] if lead else Cell()
        name = grid.ink.escape(name + row_marks(row))
        name = grid.ink.aside.format(name) if row.is_reference else name
        name += grid.mark(row.remark) if row.remark else ""
        rank = "" if cell.rank is None else f"{cell.rank}{'=' * cell.tied}"
        seeds = "" if row.kind != "model" else f"{row.n}" if row.n_ok == row.n else f"{row.n_ok}/{row.n}"
        fixed = [rank] * self._has_ranks + [name] + [seeds] * self._has_seeds
        state = list_words(sorted(row.statuses)) if row.kind == "model" and row.n and not row.n_ok else ""
        values = [self._value(grid, column, row) for column in shown]
        if state and values:
            empty = (i for i, column in enumerate(shown) if not has_value(row.cells[column.key]))
            values[next(empty, 0)] = grid.ink.escape(state)
        return [[text] for text in (*fixed, *values)]

    def _value(self, grid: Grid, column: Column, row: Row) -> str:
        parts = [self._part(grid, row.cells[key], style) for key, style in zip(column.keys, column.styles)]
        return parts[0] if len(set(parts)) == 1 else f"{parts[0]} ({parts[1]})"

    def _part(self, grid: Grid, cell: Cell, style: str) -> str:
        if not has_value(cell):
            return grid.ink.escape(DASH)
        if self.table.paired:
            cell = replace(cell, spread=None, stderr=None, printed=cell.printed.partition(" ±")[0])
        text = value_text(cell, style, DIGITS)
        written = grid.ink.number(text if len(self.errors) > 1 else text.removesuffix(IN_RUN))
        marked = grid.ink.best.format(written) if cell.best else written
        return marked + "".join(grid.mark(note) for note in (cell.flag, cell.remark) if note)

    def sentences(self) -> list[str]:
        """Who wins, or why nobody does: one for each block and extractor."""
        several = len(blocks_of(self.table)) > 1
        extractors = {head.panel.column.extractor for head in self.heads}
        found = []
        for head in self.heads:
            where = [head.panel.block] if several else []
            where += [f"features of {head.panel.column.extractor}"] if len(extractors) > 1 else []
            found.append(f"{', '.join(where)}: {head.sentence}" if where else head.sentence)
        return found

    def notes(self, count: int, best: str) -> list[str]:
        """What misleads in the first `count` columns, and what their signs mean; `best` is that of the best value."""
        shown, rows = list(self.columns[:count]), self.rows
        keys = [column.key for column in shown if column.metric.startswith("fid")]
        settings = [self.table.protocols.get(row.cells[key].protocol, {}) for key in keys for row in rows]
        told = [doubt for head in self.heads if head.winner and not head.alone for doubt in head.doubts]
        told += [f"Memorised: {head.memorised}." for head in self.heads if head.memorised]
        told += rank_deficient(settings)
        told += pressing(shown, rows, list(self.table.columns))
        told = [note for note in dict.fromkeys(told) if note not in self.table.told]
        more = len(told) - MOST_NOTES
        told = [*told[:MOST_NOTES], *([f"{more} more notes."] if more > 0 else [])]
        return [*self.table.told, *told, *([legend] if (legend := self._legend(shown, best)) else [])]

    def _legend(self, shown: list[Column], best: str) -> str:
        """`#: rank by FID test, = if shared; ≤: an upper bound.`"""
        cells = [row.cells[key] for row in self.rows for column in shown for key in column.keys]
        signs = []
        if self._has_ranks:
            by = dict.fromkeys(metric_words(column) for column in self.leads.values())
            shared = ", = if shared" if any(row.cells[self.leads[row.block].key].tied for row in self._ranked) else ""
            signs.append(f"#: rank by {list_words(by)}{shared}")
        signs += [f"{best}: no model is known to be better"] if best and any(cell.best for cell in cells) else []
        signs += ["≤: an upper bound"] if any(cell.relation == "<=" and has_value(cell) for cell in cells) else []
        signs += ["~: an estimate, not ranked"] if any(c.relation == "~" and has_value(c) for c in cells) else []
        within = "standard error within a single run"
        if self.errors == {"seeds", "run"}:
            signs.append(f"±: standard deviation over seeds or, with se, {within}")
        elif self.errors:
            signs.append(f"±: {'standard deviation over seeds' if 'seeds' in self.errors else within}")
        return f"{'; '.join(signs)}." if signs else ""

    @property
    def _ranked(self) -> list[Row]:
        return [row for row in self.models if row.block in self.leads]


def compact(table: Table) -> Compact:
    """The table in short: all that was measured by importance; another layout's columns in their own order."""
    heads = [] if table.paired else headlines([table])
    asked = table.layout == CHOSEN or table.paired
    columns = [column for column in table.columns if asked or is_filled(column, table.rows)]
    if table.layout == FULL:
        columns = _by_importance(columns, table, heads)
    return Compact(table, heads, tuple(columns))


def _by_importance(columns: list[Column], table: Table, heads: list[Headline]) -> list[Column]:
    """What ranks, FID, bits/dim, what training costs beside its budget; what ranks in other features; the rest.

    What may not rank, FID apart, comes last.
    """
    leads = list(dict.fromkeys(head.panel.column.key for head in heads))
    order = ["fid_test", TEST, open_cost(record for row in table.rows for record in row.records)]
    main = {"", *(lead.extractor for lead in leads[:1])}

    def place(column: Column) -> tuple[int, int]:
        metric, extractor = column.key
        if column.key in leads[:1]:
            return 0, 0
        if extractor in main and metric in order:
            return 1, order.index(metric)
        if column.key in leads:
            return 2, leads.index(column.key)
        if column.unranked:
            return 5, 0
        return (3, LATER.index(metric)) if extractor in main and metric in LATER else (4, 0)

    return sorted(columns, key=place)


def shortened_names(names: Iterable[str], longest: int) -> list[str]:
    """The names cut in the middle to `longest` characters, or to as many more as keep them different."""
    whole = [printable(name) for name in names]
    for size in range(longest, max(map(len, whole), default=0)):
        cut = [_middle_cut(name, size) for name in whole]
        if len(set(cut)) == len(set(whole)):
            return cut
    return whole


def _middle_cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    front = longest // 2
    return f"{text[:front]}…{text[front + 1 - longest :]}"


def fit(given: Compact, ink: Ink, measure: Callable[[str], float], gap: float, room: float) -> tuple[int, int]:
    """How many columns fit into `room`, at least one, and how long names may be; all of those that were asked for.

    `measure` gives the width of a text and `gap` that between two columns, in the unit of `room`. Names give way to the
    first columns, or to all of a table of pairs if these then fit.
    """

    def needed(longest: int, count: int) -> list[float]:
        grid = given.grid(ink, count, longest)
        cells = [[measure(line[i][0]) for _, lines in grid.blocks for line in lines] for i in range(len(grid.headings))]
        heads = [max(map(measure, heading.split("\n"))) for heading in grid.headings]
        sizes = [max([head, *own]) for head, own in zip(heads, cells)]
        return [sum(sizes[:k]) + gap * (k - 1) for k in range(given.fixed + 1, len(sizes) + 1)]

    longest = min(LONGEST_NAME, max((len(printable(row.name)) for row in given.rows), default=0))
    paired = given.table.paired and bool(given.columns)
    abreast = paired and needed(LEAST_NAME, len(given.columns))[-1] <= room
    first = len(given.columns) if abreast else min(FIRST, len(given.columns))
    if first and (over := needed(longest, first)[-1] - room) > 0:
        longest = max(LEAST_NAME, longest - math.ceil(over / measure("n")))
    if given.asked:
        return len(given.columns), longest
    widths = needed(longest, len(given.columns))
    return max(1, sum(width <= room for width in widths)), longest
