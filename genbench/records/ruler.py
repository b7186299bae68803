"""Whether each metric, in the features of one extractor, tells good images of a dataset from bad ones.

`genbench.evaluate.ladder` makes it; every record keeps the verdicts, and that of the row `real` the ladder itself.
"""

from __future__ import annotations

from typing import Any

from pydantic import FiniteFloat

from genbench.records.stored import Stored


class Rung(Stored):
    """Real images after one change, at one strength, and how they score: values by metric, with standard errors."""

    control: str
    strength: str
    values: dict[str, FiniteFloat] = {}
    errors: dict[str, FiniteFloat] = {}


class Ruler(Stored):
    """The metrics of one extractor on one dataset, each with why it may not rank; "" if it may.

    Each rung consists of `images` images, compared with `reference_images` test images. `about` says what the extractor
    is if it was trained here: its classes, and its accuracy on training and test images.
    """

    extractor: str
    images: int
    reference_images: int
    verdicts: dict[str, str]
    about: dict[str, Any] = {}
    rungs: list[Rung] = []
