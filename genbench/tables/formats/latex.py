"""LaTeX with booktabs."""

from __future__ import annotations

import re

from genbench.support.text import printable
from genbench.tables.compact import Compact, compact, fit
from genbench.tables.filled import filled
from genbench.tables.format import Format
from genbench.tables.grid import Entry, Grid, Ink, best_words, grid_of, in_two
from genbench.tables.layout import Table
from genbench.tables.wording import NO_BREAK

LATEX_LETTERS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "≤": r"$\leq$", "≥": r"$\geq$",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "σ": r"$\sigma$", "–": "--", "…": r"\dots{}", "→": r"$\rightarrow$",
    "↓": r"$\downarrow$", "↑": r"$\uparrow$", "†": r"$\dagger$", "‡": r"$\ddagger$", NO_BREAK: "~",
}  # fmt: skip

LATEX_HEAD = "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}\n"
MINUS = re.compile(r"(?<![\w.)-])-(?=\.?\d)|(?<=\de)-(?=\d)")
"""A hyphen that is the sign of a number, or of its exponent."""
PAGE, GAP = 345.0, 8.0
"""Points of a line of the standard classes at 10pt, and between two columns of a compact table."""
SLIM = frozenset(".,:;'|!()[] -ijlftrI")
BROAD = frozenset("mwMW±≤≥~@%…–†‡↓↑")


def _escape_latex(text: str) -> str:
    r"""The text as LaTeX prints it; `{}` keeps two hyphens from becoming a dash."""
    apart = re.sub("-(?=-)", "-\0", text)
    return "".join(LATEX_LETTERS.get(c, c) for c in apart).replace("\0", "{}")


def _number(text: str) -> str:
    """A text that has numbers, with minus signs for the hyphens before them."""
    return MINUS.sub("$-$", _escape_latex(text))


def _sentence(text: str) -> str:
    """A sentence in which a command stands between backquotes."""
    parts = printable(text).split("`")
    if len(parts) % 2 == 0:
        return _number(printable(text))
    return "".join(rf"\texttt{{{_escape_latex(part)}}}" if i % 2 else _number(part) for i, part in enumerate(parts))


def points(text: str) -> float:
    """About how wide a text is in 9-point Computer Modern Roman."""
    return sum(3.2 if c in SLIM else 7.6 if c in BROAD else 6.8 if c.isupper() else 4.8 for c in text)


PLAIN = Ink(escape=str, best="{}**", mark="{}", aside="{}", number=str)
"""What widths are measured of; in bold type a number is wider by about two letters."""
LATEX = Ink(
    escape=_escape_latex, best=r"\textbf{{{}}}", mark=r"\textsuperscript{{{}}}", aside=r"\textit{{{}}}", number=_number
)


def write(tables: list[Table]) -> str:
    return LATEX_HEAD + "\n".join(_latex_table(table) for table in tables)


def _latex_table(table: Table) -> str:
    table = filled(table)
    grid = grid_of(table, LATEX)
    heads = [_stacked(head) for head in grid.headings]
    out = [r"\begin{table}", r"\centering", rf"\caption{{{_escape_latex(printable(table.title))}}}"]
    out += [rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule", " & ".join(heads) + r" \\"]
    out += _body(grid)
    out += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip\raggedright\footnotesize"]
    out += [rf"\textsuperscript{{{i}}} {_sentence(note)}\par" for i, note in grid.notes.numbered()]
    out += [rf"{_sentence(best_words(note, 'Bold:'))}\par" for note in table.footnotes]
    return "\n".join([*out, r"\end{table}", ""])


def _body(grid: Grid) -> list[str]:
    """The rows, each block below a rule and under its heading."""
    out = []
    for block, rows in grid.blocks:
        out.append(r"\midrule")
        if block:
            out.append(rf"\multicolumn{{{len(grid.headings)}}}{{l}}{{\textit{{{block}}}}} \\")
        out += [" & ".join(map(_shortstack, row)) + r" \\" for row in rows]
    return out


def write_compact(tables: list[Table], room: int) -> str:
    return LATEX_HEAD + "\n".join(_latex_table(t) if t.published else _latex_compact(compact(t)) for t in tables)


def _latex_compact(given: Compact) -> str:
    """A table of the width of a page, in small type."""
    count, longest = fit(given, PLAIN, points, GAP, PAGE)
    grid = given.grid(LATEX, count, longest)
    names = given.name_column + 1
    heads = [_shortstack(heading.split("\n")) for heading in grid.headings]
    out = [r"\begin{table}", r"\centering\small", rf"\setlength{{\tabcolsep}}{{{GAP / 2:g}pt}}"]
    out += [rf"\caption{{{_sentence(given.title())}}}"]
    out += [rf"\begin{{tabular}}{{@{{}}{'l' * names}{'r' * (len(heads) - names)}@{{}}}}"]
    out += [r"\toprule", " & ".join(heads) + r" \\", *_body(grid), r"\bottomrule", r"\end{tabular}"]
    marked = [rf"\textsuperscript{{{i}}} {_sentence(note)}" for i, note in grid.notes.numbered()]
    notes = [*map(_sentence, given.sentences()), *marked, *map(_sentence, given.notes(count, "bold"))]
    out += [r"\par\smallskip\raggedright\footnotesize", *(rf"{note}\par" for note in notes)]
    return "\n".join([*out, r"\end{table}", ""])


def _shortstack(entry: Entry) -> str:
    r"""The entry's lines above each other; {} keeps `\\` from taking the bracket of an interval for its option."""
    return entry[0] if len(entry) == 1 else r"\shortstack[r]{" + r"\\{}".join(entry) + "}"


def _stacked(heading: str) -> str:
    """The heading on two lines if it names an extractor or a unit."""
    head, rest = in_two(heading)
    return rf"\shortstack{{{head}\\({rest}}}" if rest else heading


FORMAT = Format(".tex", 30, write, per_dataset=True, write_compact=write_compact)
