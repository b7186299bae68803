"""Tables as CSV and strict JSON: numbers, not strings, and all that belongs to each."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from typing import Any

from genbench.support.text import printable
from genbench.tables.layout import Cell, Column, Row, Table
from genbench.tables.published import MARK


def _plain_cell(cell: Cell) -> dict[str, Any]:
    return {
        "value": cell.value, "stderr": cell.stderr, "spread": cell.spread, "interval": cell.interval,
        "interval_of": cell.interval_of or None, "rank": cell.rank, "tied": cell.tied, "best": cell.best,
        "n_ok": cell.n_ok, "n": cell.n, "values": cell.values, "intervals": cell.ranges, "count": cell.count,
        "relation": cell.relation, "kind": cell.kind, "parts": cell.parts, "status": cell.status, "note": cell.note,
        "flag": cell.flag, "text": cell.printed or None, "protocol": cell.protocol,
    }  # fmt: skip


def _plain_row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name, "label": row.label, "model": row.model, "kind": row.kind, "conditional": row.conditional,
        "dataset": row.dataset, "block": row.block, "seeds": row.seeds, "n_ok": row.n_ok, "n": row.n,
        "statuses": row.statuses, "note": row.note,
        "cells": {key: _plain_cell(cell) for key, cell in row.cells.items()},
    }  # fmt: skip


def _plain_column(column: Column) -> dict[str, Any]:
    return {
        "keys": column.keys, "heading": column.heading, "metric": column.metric or None,
        "extractor": column.extractor or None, "better": column.better,
    }  # fmt: skip


def _plain_table(table: Table) -> dict[str, Any]:
    return {
        "layout": table.layout, "title": table.title, "dataset": table.dataset, "digest": table.digest,
        "differs": table.differs, "published": MARK if table.published else None,
        "columns": [_plain_column(column) for column in table.columns],
        "rows": [_plain_row(row) for row in table.rows],
        "tests": [{"column": key, "block": block, **asdict(pair)} for key, block, pair in table.pairs],
        "footnotes": table.footnotes, "protocols": table.protocols,
    }  # fmt: skip


def as_json(tables: list[Table]) -> str:
    """One object, a table a line: indented it would take most of the time of a table of many seeds."""
    lines = ",\n".join(json.dumps(_plain_table(table), allow_nan=False) for table in tables)
    return f'{{"tables": [\n{lines}\n]}}\n'


PARTS = ("stderr", "spread", "interval_of", "rank", "relation", "count", "n_ok", "n", "status", "flag", "protocol")
"""What a CSV has beside a value, in columns of their own where any row has it."""


def as_csv(tables: list[Table]) -> str:
    """One line a row: `KEY` holds the value, `KEY.stderr` and so on what belongs to it; empty where there is none."""
    lines = [_csv_line(index, table, row) for index, table in enumerate(tables, 1) for row in table.rows]
    header = list(dict.fromkeys(key for line in lines for key in line))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_csv_text, header))
    writer.writerows([_csv_text(line.get(key)) for key in header] for line in lines)
    return out.getvalue()


def _csv_line(index: int, table: Table, row: Row) -> dict[str, Any]:
    line: dict[str, Any] = {
        "table": index, "layout": table.layout, "dataset": row.dataset, "digest": table.digest,
        "differs": table.differs, "kind": row.kind, "block": row.block, "conditional": row.conditional,
        "model": row.name, "label": row.label, "n_ok": row.n_ok, "n": row.n, "note": row.note,
    }  # fmt: skip
    for key, cell in row.cells.items():
        line[key] = cell.printed if cell.value is None and cell.interval is None and cell.printed else cell.value
        if cell.interval:
            line[f"{key}.low"], line[f"{key}.high"] = cell.interval
        line |= {f"{key}.{part}": value for part in PARTS if _told(part, value := getattr(cell, part))}
        line |= {f"{key}.parts.{name}": value for name, value in cell.parts.items()}
    return line


def _told(part: str, value: Any) -> bool:
    """Whether there is something to write: an error of 0 is a number, a count of 0 is an unknown one."""
    return value not in (None, "") and (part != "count" or value > 0)


def _csv_text(value: Any) -> Any:
    """Numbers as they are; text that a spreadsheet would take for a formula gets a quote in front."""
    if not isinstance(value, str):
        return "" if value is None else value
    shown = printable(value)
    return f"'{shown}" if shown[:1] in ("=", "+", "-", "@") else shown
