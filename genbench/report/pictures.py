"""The pictures of a run that its pages show, as files of the report."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from genbench.records import Record
from genbench.sheets import COUNT, first_samples, sheet
from genbench.store import put


@dataclass(frozen=True)
class Picture:
    """One sheet: what it shows, in a heading, a sentence, and words for who does not see it; its path in the report."""

    title: str
    text: str
    alt: str
    path: str


def write_pictures(record: Record, slug: str, folder: Path) -> list[Picture]:
    """The pictures of a run, samples first; none where its folder holds none."""
    samples = _samples(record, slug, folder)
    return [samples] if samples else []


def _samples(record: Record, slug: str, folder: Path) -> Picture | None:
    """The run's sample sheet as PNG, which pages enlarge; None without samples."""
    from PIL import Image

    images = first_samples(record)
    if images is None:
        return None
    grey = images.shape[1] < 3
    page = sheet(images)
    out = io.BytesIO()
    Image.fromarray(page[..., 0] if grey else page).save(out, format="PNG", compress_level=1)
    path = f"samples/{slug}.png"
    put(folder / path, out.getvalue())
    text = f"The first {COUNT}, as drawn: seeded, not chosen."
    return Picture("Samples", text, f"The first {COUNT} samples of {record.job.label}, eight in a row", path)
