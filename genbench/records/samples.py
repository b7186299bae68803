"""Samples on disk: samples.npy, what each was drawn under, and samples.json, which vouches for their bytes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from genbench.condition import Kind
from genbench.records.cost import Energy, Throughput
from genbench.records.record import JOB_AGAIN, Record
from genbench.records.usage import Usage
from genbench.support import digests, store
from genbench.support.denials import reading
from genbench.support.errors import CorruptData, removal
from genbench.support.faults import fault
from genbench.support.sealed import check_digest, read_sealed, write_sealed

CONDITIONS = {"labels": "labels.npy", "conditions": "conditions.npy"}
"""Files of what samples were drawn under, by the field of `Samples`; of a row one at most is there."""
log = logging.getLogger("genbench")
FACTS = ("clamped_share", "batch", "nfe", "flops")
"""What samples.json says of samples beside what they depend on."""
BLOCK = 250
"""Images per call, on which the samples depend, since each block has its own seed."""


@dataclass(frozen=True)
class Samples:
    """uint8 images (N, C, H, W), what each was drawn under, and the share of clamped values.

    `labels` (N,), int64, are their classes if the job conditions on the class; `conditions` (N,), int64, the places of
    test images whose conditions they were given if it conditions on another kind.

    `batch` is images per call; `nfe` and `flops` are per image, None if nothing was counted.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    clamped_share: float | None = None
    batch: int = BLOCK
    nfe: int = 1
    flops: float | None = None
    conditions: np.ndarray | None = None

    @property
    def numbers(self) -> np.ndarray | None:
        """What each was drawn under, of either kind."""
        return self.conditions if self.labels is None else self.labels

    def under(self, kind: Kind | None, numbers: np.ndarray | None) -> Samples:
        """The same samples, drawn under conditions of this kind."""
        return replace(self, labels=numbers) if kind == "class" else replace(self, conditions=numbers)

    def __len__(self) -> int:
        return len(self.images)


class StoredSamples(BaseModel):
    """samples.json: what the samples depend on (`key`, `weights`), what drawing them cost, and their digests."""

    key: str
    weights: str = ""
    seconds: float = 0.0
    energy: Energy | None = None
    usage: Usage | None = Field(None, exclude_if=lambda usage: usage is None)
    throughput: list[Throughput] | None = None
    clamped_share: float | None = None
    batch: int = BLOCK
    nfe: int = 1
    flops: float | None = None
    sha256: str = ""
    labels_sha256: str | None = None
    conditions_sha256: str | None = Field(None, exclude_if=lambda digest: digest is None)


def write_samples(folder: Path, samples: Samples, about: StoredSamples) -> None:
    """Store samples and their conditions, then samples.json, since it vouches for them."""
    store.remove(folder / "samples.json")
    store.write_array(folder / "samples.npy", samples.images)
    fault("sample.stored")
    for field, name in CONDITIONS.items():
        store.remove(folder / name)
        if (numbers := getattr(samples, field)) is not None:
            store.write_array(folder / name, numbers)
    vouch(folder, samples, about)


def vouch(folder: Path, samples: Samples, about: StoredSamples) -> None:
    """Write samples.json: the content of `about`, the samples' facts and the digests of their files."""
    facts = {name: getattr(samples, name) for name in FACTS}
    about = about.model_copy(update={**facts, **_digests(folder)})
    write_sealed(folder / "samples.json", about.model_dump(mode="json"))


def _digests(folder: Path) -> dict[str, str | None]:
    files = {"sha256": "samples.npy"} | {f"{field}_sha256": name for field, name in CONDITIONS.items()}
    with reading(folder):
        return {
            key: digests.file_digest(folder / name) if (folder / name).is_file() else None
            for key, name in files.items()
        }


def read_about(folder: Path) -> StoredSamples | None:
    """The content of samples.json; None if there is none. Raises CorruptData if it does not describe samples."""
    file = folder / "samples.json"
    if not file.exists():
        return None
    try:
        return StoredSamples.model_validate(read_sealed(file, redraw(folder), required=False))
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise CorruptData(f"{file}: not a description of samples{f': {key}' if key else ''}", redraw(folder)) from error


def read_samples(folder: Path, key: str, weights: str) -> tuple[Samples, StoredSamples] | None:
    """Stored samples of this key, drawn from these weights, and the content of samples.json.

    None if there are none, or if their bytes have changed, or those of samples.json.
    """
    try:
        about = read_about(folder)
        if about is None or (about.key, about.weights) != (key, weights):
            return None
        found = _digests(folder)
    except CorruptData as error:
        log.warning("%s; drawing the samples again", error.message)
        return None
    if found != {key: getattr(about, key) for key in found}:
        return None
    return _load(folder, about), about


def recorded_samples(folder: Path, record: Record) -> Samples:
    """The samples that a record was made of. Raises CorruptData if they are gone or have changed."""
    about, fix = read_about(folder), redraw(folder)
    if about is None:
        raise CorruptData(f"{folder / 'samples.json'}: missing, though the run is complete", fix)
    if about.key != record.samples.key:
        raise CorruptData(f"{folder / 'samples.json'}: describes other samples than record.json", fix)
    for name, expected in {"samples.json": None, **listed(about)}.items():
        if known := record.files.get(name, expected):
            check_digest(folder / name, known, "record.json", fix)
        elif (folder / name).exists() and name != "samples.json":
            raise CorruptData(f"{folder / name}: not a file of these samples", fix)
    return _load(folder, about)


def listed(about: StoredSamples) -> dict[str, str | None]:
    """The digest that samples.json gives of each file, None of one that these samples do not have."""
    return {"samples.npy": about.sha256} | {
        name: getattr(about, f"{field}_sha256") for field, name in CONDITIONS.items()
    }


def redraw(folder: Path) -> str:
    """The way out of damaged samples of a finished run: its job draws and scores them again, with the same weights."""
    return removal(folder / "record.json", folder / "samples.json", then=JOB_AGAIN)


def _load(folder: Path, about: StoredSamples) -> Samples:
    files = {field: folder / name for field, name in CONDITIONS.items()}
    numbers: dict[str, Any] = {field: store.read_array(file) for field, file in files.items() if file.is_file()}
    images = store.read_array(folder / "samples.npy")
    facts = {name: getattr(about, name) for name in FACTS}
    return Samples(images, **facts, **numbers)
