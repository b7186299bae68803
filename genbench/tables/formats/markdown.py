"""Markdown, with HTML for what it has no sign for."""

from __future__ import annotations

import re

from genbench.support.text import printable
from genbench.tables.compact import Compact, compact, fit
from genbench.tables.filled import filled
from genbench.tables.format import Format
from genbench.tables.grid import Ink, best_words, grid_of
from genbench.tables.layout import Table


def _escape_markdown(text: str) -> str:
    entities = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "|": "&#124;", "\n": " "}
    return "".join(entities.get(c, f"\\{c}" if c in r"\`*_{}[]#$~" else c) for c in text)


LINE = 100
"""Characters of a line of a compact table."""
SMALL = re.compile("<sup>.*?</sup>")
MARKDOWN = Ink(escape=_escape_markdown, best="**{}**", mark=" <sup>{}</sup>", aside="*{}*", number=_escape_markdown)


def write(tables: list[Table]) -> str:
    return "\n\n".join(_markdown_table(table) for table in tables) + "\n"


def _markdown_table(table: Table) -> str:
    table = filled(table)
    grid = grid_of(table, MARKDOWN)
    out = [f"**{_escape_markdown(printable(table.title))}**", ""]
    out += [_pipes(grid.headings), _pipes(["---", *["---:"] * (len(grid.headings) - 1)])]
    for block, rows in grid.blocks:
        if block:
            out.append(_pipes([f"***{block}***", *[""] * (len(grid.headings) - 1)]))
        out += [_pipes(["<br>".join(entry) for entry in row]) for row in rows]
    out.append("")
    out += [f"{i}. {_escape_markdown(printable(note))}" for i, note in grid.notes.numbered()]
    out += ["", *(f"- {_escape_markdown(printable(best_words(note, 'bold:')))}" for note in table.footnotes)]
    return "\n".join(out)


def write_compact(tables: list[Table], room: int) -> str:
    texts = [_markdown_table(table) if table.published else _markdown_compact(compact(table)) for table in tables]
    return "\n\n".join(texts) + "\n"


def _markdown_compact(given: Compact) -> str:
    count, longest = fit(given, MARKDOWN, _seen, 3, LINE)
    grid = given.grid(MARKDOWN, count, longest)
    names = given.name_column + 1
    out = [f"**{_escape_markdown(printable(given.title()))}**", ""]
    out += [_pipes([heading.replace("\n", "<br>") for heading in grid.headings])]
    out += [_pipes([*["---"] * names, *["---:"] * (len(grid.headings) - names)])]
    for block, rows in grid.blocks:
        if block:
            before = given.name_column
            after = len(grid.headings) - before - 1
            out.append(_pipes([*[""] * before, f"***{block}***", *[""] * after]))
        out += [_pipes([entry[0] for entry in row]) for row in rows]
    marked = [f"{i}. {_escape_markdown(printable(note))}" for i, note in grid.notes.numbered()]
    sentences = [f"- {_escape_markdown(printable(text))}" for text in (*given.sentences(), *given.notes(count, "bold"))]
    return "\n".join([*out, "", *marked, *([""] if marked else []), *sentences])


def _seen(text: str) -> int:
    """How many letters of a text are seen on a page: no footnote's mark, which is small and high, and no stars."""
    return len(SMALL.sub("", text).replace("*", ""))


def _pipes(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


FORMAT = Format(".md", 20, write, per_dataset=True, write_compact=write_compact)
