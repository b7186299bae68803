"""Strict JSON: numbers, not strings, and all that belongs to each."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from genbench.tables.format import Format
from genbench.tables.layout import Cell, Column, Row, Table
from genbench.tables.published import MARK


def _plain_cell(cell: Cell) -> dict[str, Any]:
    return {
        "value": cell.value, "stderr": cell.stderr, "spread": cell.spread, "interval": cell.interval,
        "interval_of": cell.interval_of or None, "rank": cell.rank, "tied": cell.tied, "best": cell.best,
        "n_ok": cell.n_ok, "n": cell.n, "values": cell.values, "intervals": cell.ranges, "count": cell.count,
        "relation": cell.relation, "kind": cell.kind, "parts": cell.parts, "status": cell.status, "note": cell.note,
        "flag": cell.flag, "unranked": cell.unranked or None, "remark": cell.remark or None,
        "text": cell.printed or None, "protocol": cell.protocol,
    }  # fmt: skip


def _plain_row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name, "label": row.label, "model": row.model, "kind": row.kind, "conditional": row.conditional,
        "dataset": row.dataset, "block": row.block, "seeds": row.seeds, "n_ok": row.n_ok, "n": row.n,
        "statuses": row.statuses, "status": row.status or None, "note": row.note, "copying": row.copying or None,
        "unequal": row.unequal or None, "remark": row.remark or None,
        "cells": {str(slot): _plain_cell(cell) for slot, cell in row.cells.items()},
    }  # fmt: skip


def _plain_column(column: Column) -> dict[str, Any]:
    return {
        "keys": [str(slot) for slot in column.keys], "heading": column.heading, "metric": column.metric or None,
        "extractor": column.extractor or None, "better": column.better,
        "unranked": column.unranked or None,
    }  # fmt: skip


def _plain_table(table: Table) -> dict[str, Any]:
    return {
        "layout": table.layout, "title": table.title, "dataset": table.dataset, "digest": table.digest,
        "differs": table.differs, "published": MARK if table.published else None,
        "columns": [_plain_column(column) for column in table.columns],
        "rows": [_plain_row(row) for row in table.rows],
        "tests": [{"column": str(slot), "block": block, **asdict(pair)} for slot, block, pair in table.pairs],
        "footnotes": table.footnotes, "told": table.told, "protocols": table.protocols,
    }  # fmt: skip


def write(tables: list[Table]) -> str:
    """One object, a table a line: indented it would take most of the time of a table of many seeds."""
    lines = ",\n".join(json.dumps(_plain_table(table), allow_nan=False) for table in tables)
    return f'{{"tables": [\n{lines}\n]}}\n'


FORMAT = Format(".json", 50, write)
