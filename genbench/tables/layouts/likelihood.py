"""Likelihoods with their parts, and how far they are from the entropy of the images, if that is known."""

from __future__ import annotations

from genbench.records.slots import Slot
from genbench.tables.columns import likelihood_column, slot_columns
from genbench.tables.groups import Group
from genbench.tables.layout import Column, Layout, Row, Table
from genbench.tables.limits import ELBO, GAP, KIND, LIMIT, PARTS, TEST, entropies_of, with_limit


def columns(group: Group) -> list[Column]:
    """Limit and gap if the entropy is known, the looser bound and parts if any model has them."""
    known = bool(entropies_of(group.records))
    parts = any(m.parts for view in group.views for slot, m in view.slots.items() if slot in (TEST, ELBO))
    return [
        *_own(LIMIT, "limit, bits/dim", "bits", known),
        likelihood_column(),
        *_own(KIND, "kind", "text"),
        *_own(GAP, "gap to the limit", "bits", known),
        *slot_columns(group, [ELBO.metric]),
        *_own(PARTS, "parts, bits/dim", "text", parts),
    ]


def _own(slot: Slot, heading: str, style: str, shown: bool = True) -> list[Column]:
    """A column that only this layout has, if it is shown."""
    return [Column((slot,), heading, (style,))] if shown else []


def finish(rows: list[Row], group: Group) -> list[Row]:
    """The models, which alone have a likelihood, with the cells that are this layout's own."""
    return [with_limit(row) for row in rows if row.kind == "model"]


def has_values(table: Table) -> bool:
    """Whether any model has a likelihood."""
    return any(row.cells[TEST].value is not None for row in table.rows)


LAYOUT = Layout("Likelihoods", 20, columns, order=TEST.metric, finish=finish, is_shown=has_values)
