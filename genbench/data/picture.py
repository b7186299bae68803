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


def as_levels(image: Any, shape: tuple[int, int, int], crop: int | None = None) -> tuple[np.ndarray, bool]:
    """A picture as uint8 levels (C, H, W): upright, cropped, resized with antialiasing; and whether it was turned.

    `crop` is the side of the centre square that is kept. Raises Unfit if levels cannot hold it.
    """
    from PIL import ExifTags, ImageOps
    from PIL import Image as PIL

    if not isinstance(image, PIL.Image):
        raise Unfit("no image", type(image).__name__, "give pictures")
    channels, height, width = shape
    image = plain(image)
    with decoding():
        turned = image.getexif().get(ExifTags.Base.Orientation) in TURNED
        image = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
    if crop and crop > min(image.size):
        size = f"crop = {crop} of an image of {image.width}x{image.height}"
        raise Unfit("smaller than the crop", size, "make `crop` smaller, or remove small images")
    if crop:
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), PIL.Resampling.BICUBIC)
    array = np.asarray(image, dtype=np.uint8)
    return (array[None] if channels == 1 else array.transpose(2, 0, 1)), turned


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
