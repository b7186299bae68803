"""CSV: one line per row, numbers as they are."""

from __future__ import annotations

import csv
import io
from typing import Any

from genbench.support.text import printable
from genbench.tables.format import Format
from genbench.tables.layout import Row, Table

PARTS = (
    "stderr", "spread", "interval_of", "rank", "unranked", "relation", "count", "n_ok", "n", "status", "flag",
    "remark", "protocol",
)  # fmt: skip
"""What a CSV has beside a value, each in its own column if any row has it."""


def write(tables: list[Table]) -> str:
    """One line per row: `KEY` holds the value, `KEY.stderr` and so on what belongs to it; empty if there is none."""
    lines = [line_of(index, table, row) for index, table in enumerate(tables, 1) for row in table.rows]
    header = list(dict.fromkeys(key for line in lines for key in line))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(csv_text, header))
    writer.writerows([csv_text(line.get(key)) for key in header] for line in lines)
    return out.getvalue()


def line_of(index: int, table: Table, row: Row) -> dict[str, Any]:
    """What a row of the table `index` has, by the names of the columns."""
    line: dict[str, Any] = {
        "table": index, "layout": table.layout, "dataset": row.dataset,
        "digest": "" if row.kind == "published" else table.digest,
        "differs": table.differs, "kind": row.kind, "block": row.block, "conditional": row.conditional,
        "model": row.name, "label": row.label, "n_ok": row.n_ok, "n": row.n, "note": row.note, "copying": row.copying,
        "unequal": row.unequal,
    }  # fmt: skip
    line |= {key: value for key, value in (("status", row.status), ("remark", row.remark)) if value}
    for slot, cell in row.cells.items():
        key = str(slot)
        line[key] = cell.printed if cell.value is None and cell.interval is None and cell.printed else cell.value
        if cell.interval:
            line[f"{key}.low"], line[f"{key}.high"] = cell.interval
        line |= {f"{key}.{part}": value for part in PARTS if _told(part, value := getattr(cell, part))}
        line |= {f"{key}.parts.{name}": value for name, value in cell.parts.items()}
    return line


def _told(part: str, value: Any) -> bool:
    """Whether there is something to write: an error of 0 is a number, a count of 0 is an unknown one."""
    return value not in (None, "") and (part != "count" or value > 0)


def csv_text(value: Any) -> Any:
    """Numbers as they are; text that a spreadsheet would take for a formula gets a quote in front."""
    if not isinstance(value, str):
        return "" if value is None else value
    shown = printable(value)
    return f"'{shown}" if shown[:1] in ("=", "+", "-", "@") else shown


FORMAT = Format(".csv", 40, write, per_dataset=True)
