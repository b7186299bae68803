"""Pictures: what one of any format and mode becomes as levels, or why it cannot; the same for every source."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from genbench.data.refusals import Unfit
from genbench.support.denials import denial
from genbench.support.errors import GenbenchError, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "TIFF", "WEBP", "AVIF", "PPM")
"""What is read, whatever a file is called; among the others that PIL knows are some that start programs."""
TURNED = range(2, 9)
"""The EXIF orientations that rotate or mirror an image."""
NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE)
"""What is no fault of a picture."""
UNREADABLE = "not a readable image"
REPLACE = "replace or remove it"
CONVERT = "convert to 8-bit gray or RGB without transparency first"
LOSSY = ("JPEG", "MPO", "WEBP", "AVIF")
"""Formats in which a level may be another than the one that was saved."""
WIDENED = {"L;2": 85, "L;4": 17}
"""What PIL multiplies the levels of a gray picture with 2 or 4 bits by, so that the highest is 255."""


def open_picture(source: Path | BinaryIO, opener: Callable[..., Image] | None = None) -> Image:
    """The picture in a file or stream, still to be decoded; the first of a phone's several (MPO), which is the photo.

    Raises Unfit, or EnvironmentProblem if reading is not permitted. `opener` stands for PIL's own.
    """
    from PIL import Image as PIL

    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise Unfit(UNREADABLE, "a folder" if source.is_dir() else "not a regular file", REPLACE)
    PIL.init()
    with decoding():
        image = (opener or PIL.open)(source, formats=[form for form in FORMATS if form in PIL.OPEN])
        frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        image.close()
        raise Unfit("several images in one file", f"{frames} frames", "give still images")
    return image


def as_levels(
    image: Any, shape: tuple[int, int, int], crop: int | None = None, step: int = 1
) -> tuple[np.ndarray, bool]:  # fmt: skip
    """A picture as uint8 levels (C, H, W): upright, cropped, resized with antialiasing; and whether it was turned.

    `crop` and `step` are those of `framed`. Raises Unfit if levels cannot hold it.
    """
    from PIL import Image as PIL
    from PIL import ImageOps

    if not isinstance(image, PIL.Image):
        raise Unfit("no image", type(image).__name__, "give pictures")
    channels, height, width = shape
    image = plain(image)
    with decoding():
        turned = is_turned(image)
        image = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
    array = np.asarray(framed(image, (width, height), crop, step, PIL.Resampling.BICUBIC), dtype=np.uint8)
    return (array[None] if channels == 1 else array.transpose(2, 0, 1)), turned


def framed(image: Image, size: tuple[int, int], crop: int | None, step: int, resampling: Any) -> Image:
    """A picture cropped and resized to `size` (W, H).

    `crop` is the side of the centre square that is kept, which begins at a multiple of `step` pixels; without it all is
    kept that has the ratio of the sides. Raises Unfit for a smaller picture.
    """
    from PIL import ImageOps

    if crop and crop > min(image.size):
        told = f"crop = {crop} of an image of {image.width}x{image.height}"
        raise Unfit("smaller than the crop", told, "make `crop` smaller, or remove small images")
    if crop:
        left, top = ((side - crop) // 2 // step * step for side in image.size)
        image = image.crop((left, top, left + crop, top + crop))
    return image if image.size == size else ImageOps.fit(image, size, resampling)


def is_turned(image: Image) -> bool:
    """Whether its EXIF orientation says that it is shown rotated or mirrored."""
    from PIL import ExifTags

    return image.getexif().get(ExifTags.Base.Orientation) in TURNED


def numbers(picture: Image) -> np.ndarray:
    """The number that each pixel of a picture of one level holds, int64 (H, W): of a palette its indices.

    Raises Unfit for colours, and for a format that may have changed a number.
    """
    check_lossless(picture)
    if picture.mode not in ("1", "L", "P", "I") and not picture.mode.startswith("I;16"):
        raise Unfit("colours", f"of mode {picture.mode}", "give one level a pixel: the number of its class")
    raw = next((tile[3] for tile in getattr(picture, "tile", ())), "")
    with decoding():
        picture.load()
        levels = np.asarray(picture).astype(np.int64)
    return levels // WIDENED.get(raw[0] if isinstance(raw, tuple) else raw, 1)


def check_lossless(picture: Image) -> None:
    """Raise Unfit for a picture in one of the LOSSY formats."""
    if picture.format in LOSSY:
        edges = f"{picture.format}, whose edges have levels of their own"
        raise Unfit("a format that changes levels", edges, "save it as PNG")


def plain(image: Image) -> Image:
    """The picture decoded, in mode 1, L or RGB. Raises Unfit for what these cannot hold."""
    deep, mode = _is_deep(image), f"mode {image.mode}"
    with decoding():
        image.load()
    if deep or image.mode[0] in "IF":
        raise Unfit("more than 8 bits per channel", mode, CONVERT)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
        with decoding():
            opaque = image.convert("RGBA").getchannel("A").getextrema() == (255, 255)
        if not opaque:
            raise Unfit("transparency", mode, CONVERT)
        image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
        image.info.pop("transparency", None)
    if image.mode in ("P", "YCbCr"):
        image = image.convert("RGB")
    if image.mode not in ("1", "L", "RGB"):
        raise Unfit("neither gray nor RGB", mode, CONVERT)
    return image


def _is_deep(image: Image) -> bool:
    """Whether a file that is still to be decoded has 16 bits per channel, of which PIL would keep 8 without a word."""
    if image.format in ("BMP", "DIB"):  # where 16 is the sum of all channels' bits
        return False
    given = [tile[3] for tile in getattr(image, "tile", ())]
    words = [word for words in given for word in (words if isinstance(words, tuple) else (words,))]
    return any(word > 255 if isinstance(word, int) and image.format == "PPM" else ";16" in str(word) for word in words)


@contextmanager
def decoding() -> Iterator[None]:
    """Raise Unfit for whatever goes wrong in reading a picture, and for a truncated one whatever else PIL was told."""
    from PIL import ImageFile, UnidentifiedImageError

    tolerant, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    except (GenbenchError, Unfit):
        raise
    except OSError as error:
        if error.errno in NO_ACCESS:
            raise denial(error, None if error.filename else Path("an image")) or error from error
        unknown = isinstance(error, UnidentifiedImageError)
        told = f"in none of the formats {', '.join(FORMATS)}" if unknown else error.strerror or first_line(error)
        raise Unfit(UNREADABLE, told, REPLACE) from error
    except Exception as error:
        raise Unfit(UNREADABLE, first_line(error), REPLACE) from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = tolerant
