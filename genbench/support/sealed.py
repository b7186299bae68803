"""JSON files whose last key is a digest of the rest, and files whose digest such a JSON file holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genbench.support import store
from genbench.support.denials import reading
from genbench.support.digests import file_digest, settings_digest
from genbench.support.errors import CorruptData, leading_to

SEAL = "seal"
SHORT = 12
"""Digits of a digest in a message."""


def write_sealed(path: Path, plain: Mapping[str, Any]) -> None:
    """Write a JSON object and, as its last key, the digest of the others."""
    plain = json.loads(json.dumps(plain, allow_nan=False))  # as it will be read
    store.write_json(path, {**plain, SEAL: settings_digest(plain)})


def read_sealed(path: Path, hint: str, required: bool = True) -> dict[str, Any]:
    """The object that `write_sealed` wrote, without its digest. Raises CorruptData with `hint` if it has changed.

    Unless `required`, a file of an earlier version may be without a digest.
    """
    with leading_to(hint):
        plain = store.read_json(path)
    if not isinstance(plain, dict):
        raise CorruptData(f"{path}: not an object", hint)
    said = plain.pop(SEAL, None)
    if said is None and not required:
        return plain
    if said != (found := settings_digest(plain)):
        raise CorruptData(f"{path}: {changed(str(said), found, 'its last line')}", hint)
    return plain


def check_digest(path: Path, expected: str, source: str, hint: str) -> None:
    """Raise CorruptData, with `hint`, unless the file has the digest that `source` gives."""
    with leading_to(hint), reading(path):
        found = file_digest(path)
    if found != expected:
        raise CorruptData(f"{path}: {changed(expected, found, source)}", hint)


def changed(expected: str, found: str, source: str) -> str:
    """What is wrong with something that has another digest than it should."""
    return f"changed since it was written: its SHA-256 is {found[:SHORT]}..., {source} says {expected[:SHORT]}..."
