"""One condition from a file of the user's: an image with a transparent hole, or a small image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genbench.condition import ConditionSpec
from genbench.data.dataset import Part
from genbench.data.picture import as_levels, decoding, open_picture
from genbench.data.refusals import Unfit
from genbench.support.denials import look
from genbench.support.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image

Shape = tuple[int, int, int]


def read_condition(file: Path, spec: ConditionSpec, shape: Shape) -> Part:
    """A split of one image, (C, H, W), with the condition that the file holds. Raises BadInput, naming the file."""
    option = f"--{spec.kind}"
    if not look(file, option).exists():
        raise BadInput(f"{option} {file}: no such file", "give an image file")
    try:
        picture = open_picture(file)
        return _with_hole(picture, shape) if spec.kind == "hole" else _small(picture, spec, shape)
    except Unfit as why:
        raise BadInput(f"{file}: {why}", why.hint) from why


def _with_hole(picture: Image, shape: Shape) -> Part:
    """The transparent pixels are the hole."""
    _check_size(picture, shape)
    with decoding():
        seen = picture.convert("RGBA")
    alpha = np.asarray(seen.getchannel("A"))
    if not ((alpha == 0) | (alpha == 255)).all():
        raise Unfit("half transparent", "pixels that are neither shown nor hidden", "make each opaque or transparent")
    if (alpha == 255).all():
        raise Unfit("no hole", "no pixel is transparent", "make the pixels to be filled transparent")
    levels, _ = as_levels(seen.convert("RGB"), shape)
    return Part(levels[None], None, {"hole": {"hole": (alpha == 0)[None, None]}})


def _small(picture: Image, spec: ConditionSpec, shape: Shape) -> Part:
    _, height, width = spec.shape
    small = (shape[0], height, width)
    _check_size(picture, small)
    levels, _ = as_levels(picture, small)
    return Part(np.zeros((1, *shape), np.uint8), None, {"image": {"image": levels[None]}})


def _check_size(picture: Image, shape: Shape) -> None:
    wanted = f"{shape[1]}x{shape[2]}"
    if picture.size != (shape[2], shape[1]):
        raise Unfit("another size", f"{picture.height}x{picture.width} pixels", f"the run takes {wanted}")
