"""Reads generated scenes cell by cell, and compares what is there with what captions say (`genbench.data.scenes`).

A cell is lit if its mean level is above a third of what the faintest digit has; its colour is the one that its light is
nearest to, and its digit what the classifier that ships for digits of this size makes of its levels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np

from genbench.condition import EACH
from genbench.data.bundled import DIGITS
from genbench.data.cells import CELLS, cell_at
from genbench.data.dataset import Dataset, Part
from genbench.data.scenes import COLOURS, EMPTY, Meaning, meaning
from genbench.data.words import read as captions_of
from genbench.evaluate import digits
from genbench.metrics.alignment import (
    BINDING,
    COLOUR,
    COUNT,
    DIGIT,
    NEW,
    PLACE,
    RIGHT,
    TAKEN,
    share_of,
    uneven,
)
from genbench.metrics.value import Value

LIT = 1 / 3
"""The least mean level of a cell that is lit, over that of the faintest training digit."""
BLOCK = 1000


def values(images: np.ndarray, data: Dataset, places: np.ndarray) -> dict[str, Value]:
    """The metrics of scenes (N, 3, H, W), EACH in a row under the caption of a test image."""
    conditions = places[::EACH]
    found = {name: marked.reshape(-1, EACH) for name, marked in marks(images, data.test, places).items()}
    return {
        name: uneven(marked, CELLS, conditions) if name == TAKEN else share_of(marked, conditions)
        for name, marked in found.items()
    }


def marks(images: np.ndarray, part: Part, places: np.ndarray) -> dict[str, np.ndarray]:
    """Of scenes (N, 3, H, W) under the captions of test images, marks (N,) by metric, NaN where none is given."""
    captions = captions_of(part.conditions["text"]["captions"][places])
    given = [_marks(scene, meaning(caption)) for scene, caption in zip(read(images), captions)]
    return {name: np.array([each.get(name, np.nan) for each in given], np.float64) for name in given[0]}


def _marks(scene: np.ndarray, said: Meaning) -> dict[str, float]:
    """The marks of one scene (CELLS,)."""
    there, lit = scene[scene != EMPTY], scene != EMPTY
    right = bool((said.scenes == scene).all(1).any())
    digits, colours = (_share_found(there % 10, [t % 10 for t in said.things]),
                       _share_found(there // 10, [t // 10 for t in said.things]))  # fmt: skip
    found = {
        RIGHT: np.nan if said.is_new else float(right),
        NEW: float(right) if said.is_new else np.nan,
        COUNT: float(len(there) == len(said.things)),
        DIGIT: digits,
        COLOUR: colours,
        PLACE: float(((said.scenes != EMPTY) == lit).all(1).any()),
        BINDING: np.nan,
        TAKEN: np.nan,
    }
    differ = len({thing % 10 for thing in said.things}) == len({thing // 10 for thing in said.things}) == 2
    if differ and len(there) == 2 and digits == colours == 1:
        found[BINDING] = float(Counter(there.tolist()) == Counter(said.things))
    if right and len(said.places) == CELLS:
        found[TAKEN] = float(np.flatnonzero(lit)[0])
    return found


def _share_found(there: np.ndarray, said: Sequence[int]) -> float:
    """How many of the things that are said are there, as a share."""
    return sum((Counter(said) & Counter(there.tolist())).values()) / len(said)


@cache
def faintest(side: int) -> float:
    """The least mean level of a training digit of so many pixels a side."""
    (images, _), _ = DIGITS[side].parts()
    return float(images.mean(axis=(1, 2, 3)).min())


def read(images: np.ndarray) -> np.ndarray:
    """What the cells of scenes (N, 3, H, W) hold, int64 (N, CELLS)."""
    side = images.shape[2] // 2
    least = LIT * faintest(side)
    colours = np.array(list(COLOURS.values()), np.float64)
    colours /= np.linalg.norm(colours, axis=1, keepdims=True)
    found = np.full((len(images), CELLS), EMPTY)
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK]
        for cell in range(CELLS):
            seen = block[:, :, *cell_at(cell, side)]
            levels = seen.max(axis=1, keepdims=True)
            lit = levels.mean(axis=(1, 2, 3)) > least
            if not lit.any():
                continue
            colour = (seen.sum(axis=(2, 3), dtype=np.float64) @ colours.T).argmax(1)
            found[start : start + BLOCK, cell][lit] = 10 * colour[lit] + digits.read(levels[lit])
    return found
