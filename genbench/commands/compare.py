"""What differs between two records."""

from __future__ import annotations

from typing import Any

from genbench.records.record import Record
from genbench.records.slots import extractor_name, flatten

IGNORED = ("job.id", "attempts", "evaluation_key", "samples.key", "files")


def differences(a: Record, b: Record) -> list[dict[str, Any]]:
    """A row (key, a, b) for everything that differs; numbers by metric and extractor, protocols by setting."""
    left, right = leaves(a), leaves(b)
    keys = [*left, *(key for key in right if key not in left)]
    return [
        {"key": key, "a": left.get(key), "b": right.get(key)}
        for key in keys
        if left.get(key) != right.get(key) and not key.startswith(IGNORED)
    ]


def leaves(record: Record) -> dict[str, Any]:
    """A record as a flat dict with dotted keys; measurements and protocols by metric and extractor."""
    plain = record.model_dump(mode="json", exclude={"folder", "measurements", "protocols", "curve"})
    flat = flatten(plain)
    for measurement in record.measurements:
        settings = record.protocols.get(measurement.protocol, {})
        extractor = extractor_name(settings)
        name = measurement.metric + (f" ({extractor})" if extractor else "")
        flat[f"measurements.{name}"] = measurement.value if measurement.status == "ok" else measurement.status
        flat |= flatten(settings, f"protocols.{name}.")
    return flat
