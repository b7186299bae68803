"""What a measurement's protocol says about it, and its slot in a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from genbench.records.record import Measurement, Protocols


class Slot(NamedTuple):
    """A metric with the extractor of its features; a cost, or a metric that needs no features, has no extractor."""

    metric: str
    extractor: str = ""

    def __str__(self) -> str:
        """`fid_test:inception-v3-compat`, as written in files."""
        return f"{self.metric}:{self.extractor}" if self.extractor else self.metric


def slot_of(measurement: Measurement, protocols: Protocols) -> Slot:
    """The slot of a measurement, whose settings are among its record's `protocols`."""
    return Slot(measurement.metric, extractor_name(protocols.get(measurement.protocol, {})))


def extractor_name(protocol: Mapping[str, Any]) -> str:
    """The feature extractor's name, or "" if the metric needs none."""
    extractor = protocol.get("extractor") or ""
    return str(extractor.get("name", "")) if isinstance(extractor, dict) else str(extractor)


def sample_count(protocol: Mapping[str, Any]) -> int:
    """The number of generated images; 0 if the protocol does not say."""
    samples = protocol.get("samples")
    count = samples.get("count") if isinstance(samples, dict) else samples
    return count if isinstance(count, int) else 0


def feature_dims(protocol: Mapping[str, Any]) -> int:
    """The dimension of the features; 0 if the protocol does not say."""
    extractor = protocol.get("extractor")
    dim = extractor.get("dim") if isinstance(extractor, dict) else None
    return dim if isinstance(dim, int) else 0


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted keys: {"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
