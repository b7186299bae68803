"""As in Table 1 of Ho et al. (2020): inception score, FID and likelihood; and what is copied, if anything is."""

from __future__ import annotations

from genbench.metrics import metrics_in
from genbench.tables.columns import likelihood_column, slot_columns
from genbench.tables.copying import telling
from genbench.tables.groups import Group
from genbench.tables.layout import Column, Layout


def columns(group: Group) -> list[Column]:
    return [*slot_columns(group, telling(group, metrics_in("quality"))), likelihood_column()]


LAYOUT = Layout("Quality", 10, columns, published=("ddpm",))
