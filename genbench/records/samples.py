"""Samples on disk: samples.npy, labels.npy, and samples.json, which says what they are and vouches for their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genbench.records.record import Record
from genbench.support import store
from genbench.support.errors import CorruptData
from genbench.support.faults import fault

BLOCK = 250
"""Images a call: part of what the samples depend on, since each block has its own seed."""


@dataclass(frozen=True)
class Samples:
    """uint8 images (N, C, H, W), int64 labels (N,) where the job is conditional, the share of clamped values."""

    images: np.ndarray
    labels: np.ndarray | None = None
    clamped_share: float | None = None
    batch: int = BLOCK
    nfe: int = 1

    def __len__(self) -> int:
        return len(self.images)


def write_samples(folder: Path, samples: Samples, about: dict[str, Any]) -> None:
    """Store samples and labels, then samples.json, since it vouches for them."""
    (folder / "samples.json").unlink(missing_ok=True)
    store.write_array(folder / "samples.npy", samples.images)
    fault("sample.stored")
    (folder / "labels.npy").unlink(missing_ok=True)
    if samples.labels is not None:
        store.write_array(folder / "labels.npy", samples.labels)
    vouch(folder, samples, about)


def vouch(folder: Path, samples: Samples, about: dict[str, Any]) -> None:
    """Write samples.json: `about` (key, weights, and what drawing them cost), the samples' facts and their digest."""
    facts = {"clamped_share": samples.clamped_share, "batch": samples.batch, "nfe": samples.nfe}
    store.write_json(folder / "samples.json", {**about, **facts, **_digests(folder)})


def _digests(folder: Path) -> dict[str, str | None]:
    labels = folder / "labels.npy"
    return {
        "sha256": store.file_digest(folder / "samples.npy"),
        "labels_sha256": store.file_digest(labels) if labels.is_file() else None,
    }


def read_samples(folder: Path, key: str, weights: str) -> tuple[Samples, dict[str, Any]] | None:
    """Stored samples of this key, drawn from these weights, and what samples.json says; None where there are no such.

    None too where their bytes have changed.
    """
    if not (folder / "samples.json").exists() or not (folder / "samples.npy").exists():
        return None
    about = store.read_json(folder / "samples.json")
    if (about["key"], about.get("weights")) != (key, weights):
        return None
    found = _digests(folder)
    if any(about.get(name, found[name]) != found[name] for name in found):
        return None
    return _load(folder, about), about


def recorded_samples(folder: Path, record: Record) -> Samples:
    """The samples that a record was made of. Raises CorruptData where they are gone or have changed."""
    mend = "run the job again"
    for name in ("samples.json", "samples.npy"):
        if not (folder / name).is_file():
            raise CorruptData(f"{folder / name}: missing, though the run is complete", mend)
    about = store.read_json(folder / "samples.json")
    if not isinstance(about, dict):
        raise CorruptData(f"{folder / 'samples.json'}: not a description of samples", mend)
    if about.get("key") != record.samples.key:
        raise CorruptData(f"{folder / 'samples.json'}: of other samples than record.json", mend)
    if store.file_digest(folder / "samples.npy") != about.get("sha256"):
        raise CorruptData(f"{folder / 'samples.npy'}: its SHA-256 is not what samples.json says", mend)
    labels, expected = folder / "labels.npy", record.files.get("labels.npy")
    if expected and (not labels.is_file() or store.file_digest(labels) != expected):
        raise CorruptData(f"{labels}: missing, or its SHA-256 is not what record.json says", mend)
    return _load(folder, about)


def _load(folder: Path, about: dict[str, Any]) -> Samples:
    labels = folder / "labels.npy"
    return Samples(
        store.read_array(folder / "samples.npy"), store.read_array(labels) if labels.is_file() else None,
        about["clamped_share"], about["batch"], about["nfe"],
    )  # fmt: skip
