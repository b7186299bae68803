"""What differs between two records."""

from __future__ import annotations

from typing import Any

from genbench.records.record import Record
from genbench.records.slots import extractor_name, flatten, slot_of
from genbench.tables.verdicts import verdict

IGNORED = ("job.id", "attempts", "evaluation_key", "samples.key", "files")


def differences(a: Record, b: Record) -> list[dict[str, Any]]:
    """A row (key, a, b) for everything that differs; numbers by metric and extractor, protocols by setting.

    `unranked` says why a number may not rank; "" if it may, or is none.
    """
    left, right = leaves(a), leaves(b)
    keys = [*left, *(key for key in right if key not in left)]
    slots = {slot_of(m, record.protocols) for record in (a, b) for m in record.measurements}
    unranked = {f"measurements.{_name(*slot)}": verdict([a, b], slot) for slot in slots}
    return [
        {"key": key, "a": left.get(key), "b": right.get(key), "unranked": unranked.get(key, "")}
        for key in keys
        if left.get(key) != right.get(key) and not key.startswith(IGNORED)
    ]


def leaves(record: Record) -> dict[str, Any]:
    """A record as a flat dict with dotted keys, without rungs; measurements and protocols by metric and extractor."""
    plain = record.model_dump(mode="json", exclude={"folder", "measurements", "protocols", "curve", "rulers"})
    plain["rulers"] = {name: ruler.model_dump(mode="json", exclude={"rungs"}) for name, ruler in record.rulers.items()}
    flat = flatten(plain)
    for measurement in record.measurements:
        settings = record.protocols.get(measurement.protocol, {})
        name = _name(measurement.metric, extractor_name(settings))
        flat[f"measurements.{name}"] = measurement.value if measurement.status == "ok" else measurement.status
        flat |= flatten(settings, f"protocols.{name}.")
    return flat


def _name(metric: str, extractor: str) -> str:
    return metric + (f" ({extractor})" if extractor else "")
