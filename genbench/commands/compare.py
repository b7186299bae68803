"""What differs between two records."""

from __future__ import annotations

from typing import Any

from genbench.records.record import Record

IGNORED = ("job.id", "attempts", "evaluation_key", "samples.key", "files")


def differences(a: Record, b: Record) -> list[dict[str, Any]]:
    """Rows of (key, a, b) for all that is not equal; numbers by metric and extractor, protocols by setting."""
    left, right = flatten(a), flatten(b)
    keys = [*left, *(key for key in right if key not in left)]
    return [
        {"key": key, "a": left.get(key), "b": right.get(key)}
        for key in keys
        if left.get(key) != right.get(key) and not key.startswith(IGNORED)
    ]


def flatten(record: Record) -> dict[str, Any]:
    """A record as dotted keys; measurements and protocols stand under their metric and extractor."""
    plain = record.model_dump(mode="json", exclude={"folder", "measurements", "protocols", "curve"})
    flat = dict(_leaves(plain, ""))
    for measurement in record.measurements:
        settings = record.protocols.get(measurement.protocol, {})
        extractor = settings.get("extractor")
        name = extractor.get("name", "") if isinstance(extractor, dict) else ""
        key = f"measurements.{measurement.metric}" + (f" ({name})" if name else "")
        flat[key] = measurement.value if measurement.status == "ok" else measurement.status
        flat.update(_leaves(settings, f"protocols.{measurement.metric}" + (f" ({name})" if name else "")))
    return flat


def _leaves(value: Any, key: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for name, inner in value.items() for leaf in _leaves(inner, f"{key}.{name}" if key else str(name))]
    return [(key, value)]
