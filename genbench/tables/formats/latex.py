"""LaTeX with booktabs."""

from __future__ import annotations

from genbench.support.text import printable
from genbench.tables.filled import filled
from genbench.tables.format import Format
from genbench.tables.grid import Entry, Ink, best_words, grid_of, in_two
from genbench.tables.layout import Table
from genbench.tables.wording import NO_BREAK

LATEX_LETTERS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "≤": r"$\leq$", "±": r"$\pm$", "–": "--", "…": r"\dots{}",
    "↓": r"$\downarrow$", "↑": r"$\uparrow$", "†": r"$\dagger$", "‡": r"$\ddagger$", NO_BREAK: "~",
}  # fmt: skip
LATEX_HEAD = "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}\n"


def _escape_latex(text: str) -> str:
    return "".join(LATEX_LETTERS.get(c, c) for c in text)


LATEX = Ink(escape=_escape_latex, best=r"\textbf{{{}}}", mark=r"\textsuperscript{{{}}}", aside=r"\textit{{{}}}")


def write(tables: list[Table]) -> str:
    return LATEX_HEAD + "\n".join(_latex_table(table) for table in tables)


def _latex_table(table: Table) -> str:
    table = filled(table)
    grid = grid_of(table, LATEX)
    heads = [_stacked(head) for head in grid.headings]
    out = [r"\begin{table}", r"\centering", rf"\caption{{{_escape_latex(printable(table.title))}}}"]
    out += [rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule", " & ".join(heads) + r" \\"]
    for block, rows in grid.blocks:
        out.append(r"\midrule")
        if block:
            out.append(rf"\multicolumn{{{len(heads)}}}{{l}}{{\textit{{{block}}}}} \\")
        out += [" & ".join(map(_shortstack, row)) + r" \\" for row in rows]
    out += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip\raggedright\footnotesize"]
    out += [rf"\textsuperscript{{{i}}} {_escape_latex(printable(note))}\par" for i, note in grid.notes.numbered()]
    out += [rf"{_escape_latex(printable(best_words(note, 'Bold:')))}\par" for note in table.footnotes]
    return "\n".join([*out, r"\end{table}", ""])


def _shortstack(entry: Entry) -> str:
    r"""The entry's lines above each other; {} keeps `\\` from taking the bracket of an interval for its option."""
    return entry[0] if len(entry) == 1 else r"\shortstack[r]{" + r"\\{}".join(entry) + "}"


def _stacked(heading: str) -> str:
    """The heading on two lines if it names an extractor or a unit."""
    head, rest = in_two(heading)
    return rf"\shortstack{{{head}\\({rest}}}" if rest else heading


FORMAT = Format(".tex", 30, write, per_dataset=True)
