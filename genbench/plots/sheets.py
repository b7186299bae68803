"""Sheets of samples: the first ones of a run, as drawn and never chosen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from genbench.records.record import Record
from genbench.records.run_folder import vouched
from genbench.records.samples import redraw
from genbench.support.errors import CorruptData
from genbench.support.store import read_array

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

COUNT = 64


def first_samples(record: Record, count: int = COUNT) -> np.ndarray | None:
    """The first `count` samples of a run, uint8 (n, C, H, W); or None if it left none.

    Raises CorruptData if samples.npy is not what the record lists, or not an array of its image shape.
    """
    file = vouched(record, "samples.npy")
    if file is None:
        return None
    images = read_array(file)
    if images.dtype != "uint8" or images.ndim != 4 or images.shape[1:] != record.dataset.shape:
        wanted = ", ".join(map(str, record.dataset.shape))
        raise CorruptData(f"{file}: {images.dtype} {images.shape}, not uint8 (N, {wanted})", redraw(file.parent))
    return images[:count]


def sheet(images: np.ndarray, columns: int = 8, padding: int = 1) -> np.ndarray:
    """Images (N, C, H, W) row by row on mid-grey, uint8 (H', W', 3).

    One channel is shown as grey; of more than three, the first three.
    """
    import numpy as np

    n, c, h, w = images.shape
    rows = math.ceil(n / columns)
    page = np.full((rows * (h + padding) + padding, columns * (w + padding) + padding, 3), 128, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (h + padding) + padding, (i % columns) * (w + padding) + padding
        pixels = image.transpose(1, 2, 0)
        page[top : top + h, left : left + w] = pixels[..., :3] if c >= 3 else pixels[..., :1]
    return page


def as_picture(page: np.ndarray, channels: int) -> Image:
    """A sheet (H, W, 3) of images with so many channels, grey if there are fewer than three."""
    from PIL import Image

    return Image.fromarray(page[..., 0] if channels < 3 else page)
