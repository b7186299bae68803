"""Every metric and every cost that any of the runs has."""

from __future__ import annotations

from genbench.metrics import in_order
from genbench.records.slots import Slot
from genbench.tables.columns import OF_RUN, slot_columns
from genbench.tables.groups import Group
from genbench.tables.layout import Column, Layout


def columns(group: Group) -> list[Column]:
    return [
        *slot_columns(group, in_order((slot.metric for slot in group.protocols), "full")),
        *(Column((Slot(key),), heading, (style,)) for key, (heading, style, _) in OF_RUN.items()),
    ]


LAYOUT = Layout("Everything measured", 40, columns, published=("ddpm", "ldm"))
