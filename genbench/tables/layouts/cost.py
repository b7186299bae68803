"""As in Table 18 of Rombach et al. (2022): compute, sampling speed and parameters beside quality."""

from __future__ import annotations

from genbench.metrics import metrics_in
from genbench.records.slots import Slot
from genbench.tables.columns import slot_columns
from genbench.tables.groups import Group, is_reference
from genbench.tables.layout import Column, Layout


def columns(group: Group) -> list[Column]:
    """Compute, whose second unit is in parentheses; samples/s have a better direction if all ran on one device."""
    devices = {record.environment.device.split(":")[0] for record in group.records if not is_reference(record)}
    return [
        _compute("generator compute, device-seconds (FLOPs)", "device_seconds", "flops"),
        Column((Slot("classifier_device_seconds"),), "classifier compute", ("seconds",)),
        _compute("overall, device-seconds (FLOPs)", "overall_device_seconds", "overall_flops"),
        Column((Slot("overall_v100_days"),), "overall, V100-days", ("days",)),
        Column(
            (Slot("images_per_second"),), "samples/s", ("rate",), better="higher" if len(devices) == 1 else None
        ),
        Column((Slot("parameters"),), "parameters", ("si",)),
        *slot_columns(group, metrics_in("cost")),
    ]  # fmt: skip


def _compute(heading: str, seconds: str, flops: str) -> Column:
    return Column((Slot(seconds), Slot(flops)), heading, ("seconds", "flops"))


LAYOUT = Layout("Cost", 30, columns, published=("ldm",))
