"""Tables as text, Markdown, LaTeX, CSV and strict JSON."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from genbench.support.errors import BadInput, did_you_mean
from genbench.support.text import DASH, printable
from genbench.tables.exports import as_csv, as_json
from genbench.tables.layout import Cell, Column, Row, Table
from genbench.tables.wording import NO_BREAK, detail_text, has_value, heading_text, runs_text, value_text

LONGEST_NAME = 40
WIDTH = 118
NARROW = 12


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


Entry = list[str]
"""What stands in one place of a grid: a value, and below it its interval and rank."""


@dataclass
class Grid:
    """A table of finished strings; footnotes of dashes are numbered in the order in which they appear."""

    ink: Ink
    headings: list[str]
    blocks: list[tuple[str, list[list[Entry]]]] = field(default_factory=list)
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
            runs = [] if table.published else [[ink.escape(runs_text(row))]]
            lines.append([[name], *runs, *(_entry(grid, column, row) for column in table.columns)])
        grid.blocks.append((ink.escape(printable(block)), lines))
    return grid


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= LONGEST_NAME else f"{shown[: LONGEST_NAME - 1]}…"


def _entry(grid: Grid, column: Column, row: Row) -> Entry:
    """The column's one entry for a row: `a`, or `a (b)` where it has two parts, over the interval and rank of `a`."""
    parts = [_part(grid, row.cells[key], style) for key, style in zip(column.keys, column.styles)]
    value = parts[0] if len(parts) == 1 or len(set(parts)) == 1 else f"{parts[0]} ({parts[1]})"
    detail = grid.ink.escape(detail_text(row.cells[column.key], column.styles[0]))
    if row.cells[column.key].interval is None:
        return [f"{value} {detail}".rstrip()]
    return [value, detail] if detail else [value]


def _part(grid: Grid, cell: Cell, style: str) -> str:
    ink = grid.ink
    if not has_value(cell):
        return ink.escape(DASH) + grid.mark(cell.note)
    written = ink.escape(value_text(cell, style))
    marked = ink.best.format(written) if cell.best else written
    return marked + grid.mark(cell.flag) if cell.flag else marked


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
    """The table, cut between columns into pieces below each other where it is too wide, each with the models' names."""
    grid = _grid(table, TEXT)
    rows = [row for _, rows in grid.blocks for row in rows]
    contents = [max((width(line) for row in rows for line in row[i]), default=0) for i in range(len(grid.headings))]
    heads = [_heading_lines(head, max(size, NARROW)) for head, size in zip(grid.headings, contents)]
    sizes = [max(size, *map(width, head)) for size, head in zip(contents, heads)]
    fixed = 1 if table.published else 2
    out = textwrap.wrap(printable(table.title), WIDTH)
    for piece in _pieces(sizes, fixed):
        out += _text_piece(grid, [heads[i] for i in piece], piece, [sizes[i] for i in piece])
    marked = [(f"[{i}] ", note) for i, note in enumerate(grid.notes, 1)]
    for mark, note in [*marked, *(("", note) for note in table.footnotes)]:
        out += textwrap.wrap(mark + printable(note), WIDTH, subsequent_indent=" " * len(mark))
    return "\n".join(out)


def _pieces(sizes: list[int], fixed: int) -> list[list[int]]:
    """Which columns stand beside each other, in as few pieces as will do, of about one width.

    The first piece begins with the `fixed` columns (model, runs), the others with the first.
    """

    def cut(limit: int) -> list[list[int]]:
        pieces = [list(range(fixed))]
        for i in range(fixed, len(sizes)):
            own = fixed if len(pieces) == 1 else 1
            if sum(sizes[k] + 2 for k in [*pieces[-1], i]) - 2 > limit and len(pieces[-1]) > own:
                pieces.append([0])
            pieces[-1].append(i)
        return pieces

    pieces = cut(WIDTH)
    for limit in range(WIDTH, 0, -1):
        if len(narrower := cut(limit)) > len(pieces):
            break
        pieces = narrower
    return pieces


def _text_piece(grid: Grid, heads: list[list[str]], columns: list[int], sizes: list[int]) -> list[str]:
    """The lines of some of the grid's columns: heading and blocks between rules."""

    def lines_of(entries: list[Entry]) -> list[str]:
        height = max(map(len, entries))
        full = [[*entry, *[""] * (height - len(entry))] for entry in entries]
        return [
            "  ".join(_pad(cell, size, i == 0) for i, (cell, size) in enumerate(zip(line, sizes))).rstrip()
            for line in zip(*full)
        ]

    rule = "─" * (sum(sizes) + 2 * len(sizes) - 2)
    out = [rule, *lines_of(heads)]
    for block, rows in grid.blocks:
        out += [rule, *([f"{block}:"] if block else [])]
        out += [line for row in rows for line in lines_of([row[i] for i in columns])]
    return [*out, rule]


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
        out += [_pipes(["<br>".join(entry) for entry in row]) for row in rows]
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
        out += [" & ".join(map(_shortstack, row)) + r" \\" for row in rows]
    out += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip\raggedright\footnotesize"]
    out += [rf"\textsuperscript{{{i}}} {_escape_latex(printable(note))}\par" for i, note in enumerate(grid.notes, 1)]
    out += [rf"{_escape_latex(printable(_best_words(note, 'Bold:')))}\par" for note in table.footnotes]
    return "\n".join([*out, r"\end{table}", ""])


def _shortstack(entry: Entry) -> str:
    r"""The entry's lines above each other; {} keeps `\\` from taking the bracket of an interval for its option."""
    return entry[0] if len(entry) == 1 else r"\shortstack[r]{" + r"\\{}".join(entry) + "}"


def _stacked(heading: str) -> str:
    """The heading on two lines where it names an extractor or a unit."""
    head, rest = _in_two(heading)
    return rf"\shortstack{{{head}\\({rest}}}" if rest else heading


FORMATS: dict[str, Callable[[list[Table]], str]] = {
    "text": text,
    "markdown": markdown,
    "latex": latex,
    "csv": as_csv,
    "json": as_json,
}
