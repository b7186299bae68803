"""The pictures of a run that its pages show, as files of the report."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from genbench.plots.sheets import COUNT, as_picture, first_samples, sheet
from genbench.records.class_names import listed
from genbench.records.record import JOB_AGAIN, Record
from genbench.records.run_folder import vouched
from genbench.records.samples import redraw
from genbench.support.errors import CorruptData, removal
from genbench.support.store import put, read_array, read_json
from genbench.support.text import shortened

if TYPE_CHECKING:
    import numpy as np

INDEX = "pictures.json"
LONGEST_CAPTION = 80
A_CLASS = 8
"""Samples of a class that are shown."""
MOST_COLUMNS, MOST_PIXELS = 16, 2**19
"""Of the larger sheet: 256 samples, or fewer of images above 45 x 45."""


@dataclass(frozen=True)
class Picture:
    """One sheet: what it shows, in a heading, a sentence, and words for who does not see it; its path in the report.

    The path is "" if it could not be drawn, and the sentence says why. `larger` is that of a sheet of `count` samples,
    "" if there is none.
    """

    kind: str
    title: str
    text: str
    alt: str
    path: str
    larger: str = ""
    count: int = 0


class Drawn(BaseModel):
    """What pictures.json says: for each picture a number for each of its columns, and why others were not drawn.

    `rows` are the captions of the rows of some.
    """

    model_config = ConfigDict(extra="ignore")

    columns: dict[str, list[FiniteFloat]] = {}
    rows: dict[str, list[str]] = {}
    failed: dict[str, str] = {}


KINDS = {
    "copies-train": (
        "Copies of training images",
        "Above, the samples that are copies most certainly; below each, the training image.",
    ),
    "copies-test": (
        "Copies of test images",
        "Above, the samples that are copies most certainly; below each, the test image.",
    ),
    "answers": (
        "Answers",
        "In each row what the samples were given, the test image that it was made of, and samples.",
    ),
    "forward": ("From image to noise", "Test images, each at t = {}: one draw of the forward process."),
    "reverse": ("From noise to image", "How {rows} samples come about, at t = {}."),
    "between": (
        "Between two images",
        "Outermost, two test images, the same for every model; between them the model's way from one to the other.",
    ),
    "reconstructions": (
        "Reconstructions",
        "Above, test images, the same for every model; below each, what is left of it after encoding and decoding.",
    ),
    "neighbours": (
        "Nearest training images",
        "In each row a sample, as drawn, and the training images nearest to it, by squared differences of pixels.",
    ),
}
"""The pictures of a run folder in their order: heading and sentence, `{}` being the columns' numbers."""

SIDE_BY_SIDE = {
    "answers": (KINDS["answers"][0], "In each row what was given, the test image that it was made of, and samples."),
    "between": (KINDS["between"][0], "Outermost in each row two test images, the same ones for every model."),
    "reconstructions": (KINDS["reconstructions"][0], "Above, test images, the same ones for every model."),
    "reverse": (KINDS["reverse"][0], "From left to right, how samples of the models that draw in steps come about."),
}
"""The kinds that the page of a dataset shows model by model."""


def write_pictures(record: Record, slug: str, folder: Path, larger: bool) -> Iterator[Picture]:
    """The pictures of a run, samples first, perhaps with a larger sheet of them; none if its folder holds none.

    Raises CorruptData naming the file.
    """
    if record.draws_nothing:
        yield from _drawn(record, slug, folder)
    for picture in _samples(record, slug, folder, larger):
        yield picture
        yield from _classes(record, slug, folder)
        yield from _drawn(record, slug, folder)


def _samples(record: Record, slug: str, folder: Path, larger: bool) -> Iterator[Picture]:
    """The run's sample sheet as PNG, which pages enlarge, and a larger one; none without samples."""
    images = first_samples(record)
    if images is None:
        return
    path = _write(sheet(images), images.shape[1], folder, f"samples/{slug}.png")
    text = f"The first {len(images)}, as drawn: seeded, not chosen."
    alt = f"The first {len(images)} samples of {record.job.label}, eight in a row"
    found = Picture("samples", "Samples", text, alt, path)
    columns = min(MOST_COLUMNS, math.isqrt(MOST_PIXELS // math.prod(images.shape[2:])))
    more = first_samples(record, columns**2) if larger else None
    if more is not None and len(more) > COUNT:
        path = _write(sheet(more, columns), more.shape[1], folder, f"samples/{slug}-larger.png")
        found = replace(found, larger=path, count=len(more))
    yield found


def _classes(record: Record, slug: str, folder: Path) -> Iterator[Picture]:
    """The first samples of each class, a row per class, if the run drew them for their labels."""
    import numpy as np

    file = vouched(record, "labels.npy")
    images = first_samples(record, record.samples.count)
    if file is None or images is None:
        return
    labels = read_array(file)
    if labels.shape != (len(images),):
        raise CorruptData(f"{file}: {labels.shape}, not ({len(images)},)", redraw(file.parent))
    rows = {label: images[labels == label][:A_CLASS] for label in np.unique(labels)}
    full = {label: row for label, row in rows.items() if len(row) == A_CLASS}
    if not full:
        return
    path = _write(
        sheet(np.concatenate([*full.values()]), A_CLASS), images.shape[1], folder, f"samples/{slug}-classes.png"
    )
    text, names = f"The first {A_CLASS} samples of each class, a row per class", record.dataset.classes
    named = f": {listed([names[label] for label in full])}" if len(names) > max(full) else ""
    yield Picture("classes", "Samples by class", f"{text}{named}.", f"{text}, of {record.job.label}", path)


def _drawn(record: Record, slug: str, folder: Path) -> Iterator[Picture]:
    """The pictures that were drawn when the job ran."""
    file = vouched(record, INDEX) if INDEX in record.artifacts else None
    if file is None:
        return
    try:
        drawn = Drawn.model_validate(read_json(file))
    except ValidationError as error:
        raise CorruptData(f"{file}: {error.errors()[0]['msg']}", _again(record, file)) from error
    for name, (title, sentence) in KINDS.items():
        if name in drawn.failed:
            yield Picture(name, title, f"Not drawn: {drawn.failed[name]}", "", "")
        if name not in drawn.columns:
            continue
        images = _grid(record, name, len(drawn.columns[name]))
        rows, columns = images.shape[:2]
        numbers = ", ".join(f"{number:,.0f}" for number in drawn.columns[name])
        page = sheet(images.reshape(-1, *images.shape[2:]), columns)
        path = _write(page, images.shape[2], folder, f"samples/{slug}-{name}.png")
        text = sentence.format(numbers, rows=rows)
        if captions := drawn.rows.get(name):
            told = "; ".join(shortened(caption, LONGEST_CAPTION) for caption in captions)
            text = f"In each row a test image, and samples under its caption: {told}."
        yield Picture(name, title, text, f"{title}, {record.job.label}: {rows} rows of {columns} images", path)


def _grid(record: Record, name: str, columns: int) -> np.ndarray:
    """A picture of the run folder, uint8 (rows, columns, C, H, W)."""
    assert record.folder is not None
    file = vouched(record, f"pictures/{name}.npy")
    if file is None:
        file = record.folder / f"pictures/{name}.npy"
        raise CorruptData(f"{file}: missing", _again(record, file))
    images = read_array(file)
    shape: Any = (images.shape[:1] or (0,))[0], columns, *record.dataset.shape
    if images.dtype != "uint8" or images.shape != shape:
        raise CorruptData(f"{file}: {images.dtype} {images.shape}, not uint8 {shape}", _again(record, file))
    return images


def _again(record: Record, file: Path) -> str:
    """The way out of a damaged picture."""
    assert record.folder is not None
    return removal(record.folder / "record.json", file, then=JOB_AGAIN)


def _write(page: np.ndarray, channels: int, folder: Path, path: str) -> str:
    """Write a sheet (H, W, 3) as PNG and return its path in the report."""
    out = io.BytesIO()
    as_picture(page, channels).save(out, format="PNG", compress_level=1)
    put(folder / path, out.getvalue())
    return path
