"""How numbers, headings and names are written, the same in every format, plot and page."""

from __future__ import annotations

import math
import re
import unicodedata

from genbench.support.text import DASH, STYLES, number
from genbench.tables.layout import Cell, Column, Row

NO_BREAK = "\xa0"
ARROWS = {"lower": "↓", "higher": "↑", None: ""}
UNRANKED, COPYING, UNEQUAL = "†", "‡", "§"
"""The marks of a column that may not rank, of a row that copies, and of one that had not all that its machine could
give; a footnote begins with them."""
RELATIONS = {"<=": "≤ ", "~": "~ ", "": ""}


WITHOUT_ERROR = ("si", "flops", "count", "bytes")
WITHOUT_INTERVAL = (*WITHOUT_ERROR, "seconds")


def value_text(cell: Cell, style: str, digits: int = 0) -> str:
    """`≤ 1.412 ± 0.003 se`: what a cell with a value or a range says, without marks.

    With `digits`, no more decimals than give the error so many significant digits.
    """
    if cell.printed:
        return RELATIONS[cell.relation] + cell.printed
    if cell.value is None:
        low, high = cell.interval or (0.0, 0.0)
        return f"{number(low, style)}{DASH}{number(high, style)}"
    error = cell.spread if cell.spread is not None else cell.stderr
    relation, written = RELATIONS[cell.relation], number(cell.value, style)
    if error is None or style in WITHOUT_ERROR:
        return relation + written
    shown = STYLES[style](error, cell.value)
    places = max(0, digits - 1 - math.floor(math.log10(error))) if error > 0 else 0
    if digits and error > 0 and places < len(written.partition(".")[2]) and style != "days":
        written, shown = f"{cell.value:,.{places}f}", f"{error:,.{places}f}"
    if error > 0 and not any(digit in "123456789" for digit in shown):
        if style == "seconds":
            return relation + written
        shown = f"<{shown[:-1]}1"
    return f"{relation}{written} ± {shown}" + ("" if cell.spread is not None else " se")


def detail_text(cell: Cell, style: str) -> str:
    """`[10.2, 13.8] #1= 2/3`: a value's interval, its rank, and how many runs gave one if some gave none."""
    if cell.value is None or cell.printed or style in WITHOUT_INTERVAL:
        return ""
    words = []
    if cell.interval is not None:
        low, high = (STYLES[style](end, cell.value) for end in cell.interval)
        words.append(f"[{low}, {high}]")
    if cell.rank is not None:
        words.append(f"#{cell.rank}{'=' * cell.tied}")
    if cell.n_ok < cell.n:
        words.append(f"{cell.n_ok}/{cell.n}")
    return " ".join(words)


def has_value(cell: Cell) -> bool:
    return cell.value is not None or cell.interval is not None or bool(cell.printed)


def runs_text(row: Row) -> str:
    """`3/3`, or `2/3, 1 diverged`; a dash for a row without runs."""
    if not row.n:
        return DASH
    unfinished = sorted((status, count) for status, count in row.statuses.items() if status != "complete")
    return f"{row.n_ok}/{row.n}" + "".join(
        f", {count} {status}" if row.n > 1 else f" {status}" for status, count in unfinished
    )


def row_marks(row: Row) -> str:
    """What follows the name of a row that copies, or was unequal."""
    marks = COPYING * bool(row.copying) + UNEQUAL * bool(row.unequal)
    return NO_BREAK + marks if marks else ""


def heading_text(column: Column) -> str:
    """A column's heading with an arrow towards better values, or with the mark that none is known to be better."""
    arrow = UNRANKED if column.unranked else ARROWS[column.better]
    head, space, extractor = column.heading.partition(" (") if column.extractor else (column.heading, "", "")
    return f"{head}{NO_BREAK}{arrow}{space}{extractor}" if arrow else column.heading


def metric_words(column: Column) -> str:
    """`FID test`: a column's heading without its number of samples, its extractor or a second part."""
    head = column.heading.partition(" (")[0] if column.heading.endswith(")") else column.heading
    return re.sub(r"@\d+$", "", head)


def width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
