"""Tables as text, Markdown, LaTeX, CSV and strict JSON."""

from __future__ import annotations

import csv
import io
import json
import textwrap
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from genbench.errors import BadInput, did_you_mean
from genbench.layout import Cell, Column, Row, Table
from genbench.published import MARK
from genbench.wording import DASH, NO_BREAK, has_value, heading_text, printable, runs_text, value_text

LONGEST_NAME = 40
WIDTH = 118


def render(tables: Iterable[Table], format: str) -> str:
    """The tables in `text`, `markdown`, `latex`, `csv` or `json`; raises BadInput for another format."""
    if format not in FORMATS:
        raise BadInput(f"--format {format}", did_you_mean(format, set(FORMATS)))
    return FORMATS[format](list(tables))


# Grids: what text, Markdown and LaTeX have in common


@dataclass
class Ink:
    """How one format escapes words and marks the best value, a footnote and a row that is not ranked."""

    escape: Callable[[str], str]
    best: str
    mark: str
    aside: str


@dataclass
class Grid:
    """A table of finished strings; footnotes of dashes are numbered in the order in which they appear."""

    ink: Ink
    headings: list[str]
    blocks: list[tuple[str, list[list[str]]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def mark(self, note: str) -> str:
        """The mark of a footnote, which is written once however often it is used."""
        if note not in self.notes:
            self.notes.append(note)
        return self.ink.mark.format(self.notes.index(note) + 1)


def _grid(table: Table, ink: Ink) -> Grid:
    columns = ["model", *([] if table.published else ["runs"]), *(heading_text(column) for column in table.columns)]
    grid = Grid(ink, [ink.escape(printable(heading, NO_BREAK)) for heading in columns])
    for block, rows in table.blocks:
        lines = []
        for row in rows:
            name = ink.escape(_short(row.name))
            name = name if row.kind in ("model", "published") else ink.aside.format(name)
            if row.kind == "published" and row.note:
                name += grid.mark(row.note)
            runs = [] if table.published else [ink.escape(runs_text(row))]
            lines.append([name, *runs, *(_cell(grid, column, row) for column in table.columns)])
        grid.blocks.append((ink.escape(printable(block)), lines))
    return grid


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= LONGEST_NAME else f"{shown[: LONGEST_NAME - 1]}…"


def _cell(grid: Grid, column: Column, row: Row) -> str:
    """The column's one entry for a row: `a`, or `a (b)` where it has two parts."""
    parts = [_part(grid, row.cells[key], style) for key, style in zip(column.keys, column.styles)]
    return parts[0] if len(parts) == 1 or len(set(parts)) == 1 else f"{parts[0]} ({parts[1]})"


def _part(grid: Grid, cell: Cell, style: str) -> str:
    ink = grid.ink
    if not has_value(cell):
        return ink.escape(DASH) + grid.mark(cell.note)
    written = ink.escape(value_text(cell, style))
    return ink.best.format(written) if cell.best else written


# Text


TEXT = Ink(escape=str, best="{}*", mark=" [{}]", aside="{}")


def width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, size: int, left: bool) -> str:
    space = " " * (size - width(text))
    return text + space if left else space + text


def text(tables: list[Table]) -> str:
    return "\n\n".join(_text_table(table) for table in tables) + "\n"


def _text_table(table: Table) -> str:
    grid = _grid(table, TEXT)
    lines = [line for _, rows in grid.blocks for line in rows]
    contents = [max([width(line[i]) for line in lines], default=0) for i in range(len(grid.headings))]
    heads = [_heading_lines(head, max(size, 14)) for head, size in zip(grid.headings, contents)]
    sizes = [max(size, *(width(part) for part in head)) for size, head in zip(contents, heads)]
    height = max(len(head) for head in heads)
    rule = "─" * (sum(sizes) + 2 * len(sizes) - 2)

    def line_of(cells: list[str]) -> str:
        return "  ".join(_pad(cell, size, left=i == 0) for i, (cell, size) in enumerate(zip(cells, sizes))).rstrip()

    out = [*textwrap.wrap(printable(table.title), WIDTH), rule]
    out += [line_of([head[i] if i < len(head) else "" for head in heads]) for i in range(height)]
    for block, rows in grid.blocks:
        out += [rule, *([f"{block}:"] if block else []), *map(line_of, rows)]
    out.append(rule)
    for mark, note in [
        *((f"[{i}] ", note) for i, note in enumerate(grid.notes, 1)),
        *(("", note) for note in table.footnotes),
    ]:
        out += textwrap.wrap(mark + printable(note), WIDTH, subsequent_indent=" " * len(mark))
    return "\n".join(out)


def _heading_lines(heading: str, size: int) -> list[str]:
    """The heading in lines of `size`; an extractor or unit in parentheses begins a line."""
    head, rest = _in_two(heading)
    parts = [head, f"({rest}"] if rest else [head]
    return [line for part in parts for line in textwrap.wrap(part, size, break_long_words=False)]


def _in_two(heading: str) -> tuple[str, str]:
    """What stands before the parenthesis that ends a heading, and what after; all and nothing where none does."""
    head, _, rest = heading.partition(" (")
    return (head, rest) if rest.endswith(")") else (heading, "")


# Markdown


def _escape_markdown(text: str) -> str:
    entities = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "|": "&#124;", "\n": " "}
    return "".join(entities.get(c, f"\\{c}" if c in r"\`*_{}[]#$~" else c) for c in text)


MARKDOWN = Ink(escape=_escape_markdown, best="**{}**", mark=" <sup>{}</sup>", aside="*{}*")


def markdown(tables: list[Table]) -> str:
    return "\n\n".join(_markdown_table(table) for table in tables) + "\n"


def _markdown_table(table: Table) -> str:
    grid = _grid(table, MARKDOWN)
    out = [f"**{_escape_markdown(printable(table.title))}**", ""]
    out += [_pipes(grid.headings), _pipes(["---", *["---:"] * (len(grid.headings) - 1)])]
    for block, rows in grid.blocks:
        if block:
            out.append(_pipes([f"***{block}***", *[""] * (len(grid.headings) - 1)]))
        out += map(_pipes, rows)
    out.append("")
    out += [f"{i}. {_escape_markdown(printable(note))}" for i, note in enumerate(grid.notes, 1)]
    out += ["", *(f"- {_escape_markdown(printable(_best_words(note, 'bold:')))}" for note in table.footnotes)]
    return "\n".join(out)


def _pipes(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _best_words(note: str, mark: str) -> str:
    """The footnote that explains the star, for formats that have bold type."""
    return f"{mark}{note[1:]}" if note.startswith("* ") else note


# LaTeX


LATEX_LETTERS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "≤": r"$\leq$", "±": r"$\pm$", "–": "--", "…": r"\dots{}",
    "↓": r"$\downarrow$", "↑": r"$\uparrow$", NO_BREAK: "~",
}  # fmt: skip
LATEX_HEAD = "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}\n"


def _escape_latex(text: str) -> str:
    return "".join(LATEX_LETTERS.get(c, c) for c in text)


LATEX = Ink(escape=_escape_latex, best=r"\textbf{{{}}}", mark=r"\textsuperscript{{{}}}", aside=r"\textit{{{}}}")


def latex(tables: list[Table]) -> str:
    return LATEX_HEAD + "\n".join(_latex_table(table) for table in tables)


def _latex_table(table: Table) -> str:
    grid = _grid(table, LATEX)
    heads = [_stacked(head) for head in grid.headings]
    out = [r"\begin{table}", r"\centering", rf"\caption{{{_escape_latex(printable(table.title))}}}"]
    out += [rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule", " & ".join(heads) + r" \\"]
    for block, rows in grid.blocks:
        out.append(r"\midrule")
        if block:
            out.append(rf"\multicolumn{{{len(heads)}}}{{l}}{{\textit{{{block}}}}} \\")
        out += [" & ".join(line) + r" \\" for line in rows]
    out += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip\raggedright\footnotesize"]
    out += [rf"\textsuperscript{{{i}}} {_escape_latex(printable(note))}\par" for i, note in enumerate(grid.notes, 1)]
    out += [rf"{_escape_latex(printable(_best_words(note, 'Bold:')))}\par" for note in table.footnotes]
    return "\n".join([*out, r"\end{table}", ""])


def _stacked(heading: str) -> str:
    """The heading on two lines where it names an extractor or a unit."""
    head, rest = _in_two(heading)
    return rf"\shortstack{{{head}\\({rest}}}" if rest else heading


# CSV and JSON: numbers, not strings


def _plain_cell(cell: Cell) -> dict[str, Any]:
    return {
        "value": cell.value, "stderr": cell.stderr, "spread": cell.spread, "interval": cell.interval,
        "relation": cell.relation, "kind": cell.kind, "count": cell.count, "n_ok": cell.n_ok, "n": cell.n,
        "values": cell.values, "status": cell.status, "note": cell.note, "protocol": cell.protocol, "best": cell.best,
    }  # fmt: skip


def _plain_row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name, "label": row.label, "model": row.model, "kind": row.kind, "conditional": row.conditional,
        "dataset": row.dataset, "seeds": row.seeds, "n_ok": row.n_ok, "n": row.n, "statuses": row.statuses,
        "note": row.note, "cells": {key: _plain_cell(cell) for key, cell in row.cells.items()},
    }  # fmt: skip


def _plain_column(column: Column) -> dict[str, Any]:
    return {
        "keys": column.keys, "heading": column.heading, "metric": column.metric or None,
        "extractor": column.extractor or None, "better": column.better,
    }  # fmt: skip


def _plain_table(table: Table) -> dict[str, Any]:
    return {
        "layout": table.layout, "title": table.title, "dataset": table.dataset, "digest": table.digest,
        "published": MARK if table.published else None,
        "columns": [_plain_column(column) for column in table.columns],
        "rows": [_plain_row(row) for row in table.rows], "footnotes": table.footnotes, "protocols": table.protocols,
    }  # fmt: skip


def as_json(tables: list[Table]) -> str:
    return json.dumps({"tables": [_plain_table(table) for table in tables]}, indent=1, allow_nan=False) + "\n"


PARTS = ("stderr", "spread", "relation", "count", "n_ok", "status", "protocol")
"""What a CSV has beside a value, in columns of their own where any row has it."""


def as_csv(tables: list[Table]) -> str:
    """One line a row: `KEY` holds the value, `KEY.stderr` and so on what belongs to it; empty where there is none."""
    lines = [_csv_line(index, table, row) for index, table in enumerate(tables, 1) for row in table.rows]
    header = list(dict.fromkeys(key for line in lines for key in line))
    out = io.StringIO()
    writer = csv.DictWriter(out, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _csv_text(value) for key, value in line.items()} for line in lines)
    return out.getvalue()


def _csv_line(index: int, table: Table, row: Row) -> dict[str, Any]:
    line: dict[str, Any] = {
        "table": index, "layout": table.layout, "dataset": row.dataset, "digest": table.digest, "kind": row.kind,
        "conditional": row.conditional, "model": row.name, "label": row.label,
        "n_ok": row.n_ok, "n": row.n, "note": row.note,
    }  # fmt: skip
    for key, cell in row.cells.items():
        line[key] = cell.value
        if cell.interval and cell.value is None:
            line[f"{key}.low"], line[f"{key}.high"] = cell.interval
        line |= {f"{key}.{part}": value for part in PARTS if (value := getattr(cell, part)) not in (None, "", 0)}
    return line


def _csv_text(value: Any) -> Any:
    """Numbers as they are; text that a spreadsheet would take for a formula gets a quote in front."""
    if not isinstance(value, str):
        return "" if value is None else value
    shown = printable(value)
    return f"'{shown}" if shown[:1] in ("=", "+", "-", "@") else shown


FORMATS: dict[str, Callable[[list[Table]], str]] = {
    "text": text,
    "markdown": markdown,
    "latex": latex,
    "csv": as_csv,
    "json": as_json,
}
