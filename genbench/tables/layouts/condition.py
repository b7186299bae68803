"""How samples answer the text, map, part of an image or small image that they were given, beside those of no model."""

from __future__ import annotations

from genbench.metrics import metrics_in
from genbench.metrics.alignment import ALIGNED
from genbench.metrics.answers import ENERGY, HOLE_PSNR, PSNR
from genbench.support.text import list_words
from genbench.tables.columns import slot_columns
from genbench.tables.groups import Group
from genbench.tables.layout import Column, Layout, Row, Table

ORDERING = (ENERGY, ALIGNED)
"""What a row that answers a condition has one of, by the kind of condition."""


def columns(group: Group) -> list[Column]:
    return slot_columns(group, metrics_in("condition"))


def finish(rows: list[Row], group: Group) -> list[Row]:
    """Those that answer a condition."""
    keys = [column.key for column in columns(group) if column.metric in ORDERING]
    return [row for row in rows if any(row.cells[key].value is not None for key in keys)]


def told(rows: list[Row], columns: list[Column]) -> list[str]:
    """Which models are nearer to the images than draws from the exact distribution are, on average."""
    values = {row.name: row.cells[c.key].value for c in columns if c.metric in (HOLE_PSNR, PSNR) for row in rows}
    limit = next((values[row.name] for row in rows if row.kind == "posterior" and row.name in values), None)
    models = {row.name: values.get(row.name) for row in rows if row.kind == "model"}
    above = [name for name, value in models.items() if limit is not None and value is not None and value > limit]
    if not above:
        return []
    verb = (
        "has a PSNR above that of posterior and is" if len(above) == 1 else "have PSNRs above that of posterior and are"
    )
    return [f"{list_words(above)} {verb} under-dispersed: honest answers have as much error as those of posterior."]


def has_values(table: Table) -> bool:
    """Whether any row answers a condition."""
    keys = [column.key for column in table.columns if column.metric in ORDERING]
    return any(row.cells[key].value is not None for row in table.rows for key in keys)


LAYOUT = Layout("Answers to a condition", 25, columns, order=ENERGY, finish=finish, is_shown=has_values, told=told)
