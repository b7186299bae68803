"""As in Table 18 of Rombach et al. (2022): compute, sampling speed and parameters beside quality."""

from __future__ import annotations

from genbench.metrics import metrics_in
from genbench.records.slots import Slot
from genbench.tables.columns import slot_columns
from genbench.tables.groups import Group, is_reference
from genbench.tables.layout import Column, Layout

PARTS = {
    "generator": "generator compute",
    "classifier": "classifier compute",
    "overall": "overall",
    "first_stage": "of which first stage",
}
"""Whose compute has a column, and in what words."""


def columns(group: Group) -> list[Column]:
    """Compute, whose second unit is in parentheses; samples/s have a better direction if all ran on one device."""
    devices = {record.environment.device.split(":")[0] for record in group.records if not is_reference(record)}
    return [
        *(_compute(who, words) for who, words in PARTS.items()),
        *(Column((Slot(f"{who}_v100_days"),), f"{words}, V100-days", ("days",)) for who, words in PARTS.items()),
        Column(
            (Slot("images_per_second"),), "samples/s", ("rate",), better="higher" if len(devices) == 1 else None
        ),
        Column((Slot("parameters"),), "parameters", ("si",)),
        *slot_columns(group, metrics_in("cost")),
    ]  # fmt: skip


def _compute(who: str, words: str) -> Column:
    slots = Slot(f"{who}_device_seconds"), Slot(f"{who}_flops")
    return Column(slots, f"{words}, device-seconds (FLOPs)", ("seconds", "flops"))


LAYOUT = Layout("Cost", 30, columns, published=("ldm",))
