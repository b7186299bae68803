"""Samples on disk: samples.npy, labels.npy, and samples.json, which says what they are and vouches for their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from genbench.records.record import Energy, Record, Throughput
from genbench.support import digests, store
from genbench.support.errors import CorruptData
from genbench.support.faults import fault

AGAIN = "run the job again"
BLOCK = 250
"""Images per call, on which the samples depend, since each block has its own seed."""


@dataclass(frozen=True)
class Samples:
    """uint8 images (N, C, H, W), int64 labels (N,) if the job is conditional, the share of clamped values.

    `batch` is images per call; `nfe` and `flops` are per image, None if nothing was counted.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    clamped_share: float | None = None
    batch: int = BLOCK
    nfe: int = 1
    flops: float | None = None

    def __len__(self) -> int:
        return len(self.images)


class StoredSamples(BaseModel):
    """samples.json: what the samples depend on (`key`, `weights`), what drawing them cost, and their digests."""

    key: str
    weights: str = ""
    seconds: float = 0.0
    energy: Energy | None = None
    throughput: list[Throughput] | None = None
    clamped_share: float | None = None
    batch: int = BLOCK
    nfe: int = 1
    flops: float | None = None
    sha256: str = ""
    labels_sha256: str | None = None


def write_samples(folder: Path, samples: Samples, about: StoredSamples) -> None:
    """Store samples and labels, then samples.json, since it vouches for them."""
    (folder / "samples.json").unlink(missing_ok=True)
    store.write_array(folder / "samples.npy", samples.images)
    fault("sample.stored")
    (folder / "labels.npy").unlink(missing_ok=True)
    if samples.labels is not None:
        store.write_array(folder / "labels.npy", samples.labels)
    vouch(folder, samples, about)


def vouch(folder: Path, samples: Samples, about: StoredSamples) -> None:
    """Write samples.json: the content of `about`, the samples' facts and the digests of their files."""
    facts = {name: getattr(samples, name) for name in ("clamped_share", "batch", "nfe", "flops")}
    about = about.model_copy(update={**facts, **_digests(folder)})
    store.write_json(folder / "samples.json", about.model_dump(mode="json"))


def _digests(folder: Path) -> dict[str, str | None]:
    labels = folder / "labels.npy"
    return {
        "sha256": digests.file_digest(folder / "samples.npy"),
        "labels_sha256": digests.file_digest(labels) if labels.is_file() else None,
    }


def read_about(folder: Path) -> StoredSamples | None:
    """The content of samples.json; None if there is none. Raises CorruptData if it does not describe samples."""
    file = folder / "samples.json"
    if not file.exists():
        return None
    try:
        return StoredSamples.model_validate(store.read_json(file))
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise CorruptData(f"{file}: not a description of samples{f': {key}' if key else ''}", AGAIN) from error


def read_samples(folder: Path, key: str, weights: str) -> tuple[Samples, StoredSamples] | None:
    """Stored samples of this key, drawn from these weights, and the content of samples.json.

    None if there are none, or if their bytes have changed.
    """
    about = read_about(folder)
    if about is None or not (folder / "samples.npy").exists() or (about.key, about.weights) != (key, weights):
        return None
    if _digests(folder) != {"sha256": about.sha256, "labels_sha256": about.labels_sha256}:
        return None
    return _load(folder, about), about


def recorded_samples(folder: Path, record: Record) -> Samples:
    """The samples that a record was made of. Raises CorruptData if they are gone or have changed."""
    about = read_about(folder)
    for name, there in (("samples.json", about is not None), ("samples.npy", (folder / "samples.npy").is_file())):
        if not there:
            raise CorruptData(f"{folder / name}: missing, though the run is complete", AGAIN)
    assert about is not None
    if about.key != record.samples.key:
        raise CorruptData(f"{folder / 'samples.json'}: describes other samples than record.json", AGAIN)
    if digests.file_digest(folder / "samples.npy") != about.sha256:
        raise CorruptData(f"{folder / 'samples.npy'}: its SHA-256 is not what samples.json says", AGAIN)
    labels, expected = folder / "labels.npy", record.files.get("labels.npy")
    if expected and (not labels.is_file() or digests.file_digest(labels) != expected):
        raise CorruptData(f"{labels}: missing, or its SHA-256 is not what record.json says", AGAIN)
    return _load(folder, about)


def _load(folder: Path, about: StoredSamples) -> Samples:
    labels = folder / "labels.npy"
    return Samples(
        store.read_array(folder / "samples.npy"), store.read_array(labels) if labels.is_file() else None,
        about.clamped_share, about.batch, about.nfe, about.flops,
    )  # fmt: skip
