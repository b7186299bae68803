"""One condition of the user's: a caption, or a file with a map, an image with a transparent hole, or a small image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genbench.condition import ConditionSpec
from genbench.data.dataset import EncodedTexts, Part
from genbench.data.encoders import Chosen
from genbench.data.picture import as_levels, decoding, numbers, open_picture
from genbench.data.refusals import Unfit
from genbench.data.words import Vocabulary, words_of
from genbench.records.record import DatasetStamp
from genbench.support.denials import look
from genbench.support.errors import BadInput, did_you_mean

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
        if spec.kind == "map":
            return _map(picture, spec, shape)
        return _with_hole(picture, shape) if spec.kind == "hole" else _small(picture, spec, shape)
    except Unfit as why:
        raise BadInput(f"{file}: {why}", why.hint) from why


def read_text(text: str, spec: ConditionSpec, dataset: DatasetStamp, encoder: Chosen | None = None) -> Part:
    """A split of one image, which is black, under a caption. Raises BadInput for words that training has not seen.

    Where a frozen encoder made the text of the training it must be given, and takes any words.
    """
    black, written = np.zeros((1, *dataset.shape), np.uint8), np.char.encode([text], "utf-8")
    if spec.encoder or encoder is not None:
        if encoder is None or encoder.stamp != spec.encoder:
            given = f"--encoder {encoder.words} is {encoder.stamp}" if encoder else "no --encoder"
            needed = spec.encoder or "none: it was trained on numbers of words"
            raise BadInput(f"{given}, but that of the run is {needed}", "give the run's own by --encoder NAME=FOLDER")
        texts = EncodedTexts(encoder.encoded([text]), np.zeros(1, np.int64))
        return Part(black, None, {"text": {"captions": written}}, encoded=texts)
    vocabulary, length = Vocabulary(dataset.words), spec.shape[0]
    if unknown := vocabulary.unknown(text):
        raise BadInput(
            f"--text {text!r}: no caption of {dataset.name} has the word {unknown[0]!r}",
            did_you_mean(unknown[0], vocabulary.words),
        )
    if not 0 < len(words_of(text)) <= length:
        raise BadInput(f"--text {text!r}: {len(words_of(text))} words", f"give 1 to {length}")
    return Part(black, None, {"text": {"text": vocabulary.encode([text], length), "captions": written}})


def _map(picture: Image, spec: ConditionSpec, shape: Shape) -> Part:
    """The levels are classes; the number of classes itself means that nothing is known."""
    height, width = spec.shape
    _check_size(picture, (1, height, width))
    levels = numbers(picture)
    if levels.max() > spec.size:
        told = f"class {levels.max()}, but the run has {spec.size}, from 0, and {spec.size} for what is unknown"
        raise Unfit("other classes", told, "give the numbers that the dataset has")
    black = np.zeros((1, *shape), np.uint8)
    return Part(black, None, {"map": {"map": levels[None]}}, {"map": spec.size})


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
