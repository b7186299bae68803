"""Images of four cells with bundled digits in some of them: what such sources have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

from pydantic import Field, model_validator

from genbench.data.bundled import DIGITS, Images
from genbench.data.source import Place, Source, Split

CELLS = 4
"""In reading order: top left, top right, bottom left, bottom right."""


class Cells(Source):
    """Digits in cells: in training images digits to train with, in test images digits to test with.

    The label is the digit of the first cell, in reading order, that has one.
    """

    shape: tuple[Literal[3], int, int] = (3, 16, 16)
    num_classes: int = 10
    seed: int = Field(0, ge=0)
    train_images: int = Field(20_000, ge=2)
    test_images: int = Field(2_000, ge=2)

    @model_validator(mode="after")
    def cells_have_digits(self) -> Cells:
        sides = {2 * side: (2 * side, 2 * side) for side in DIGITS}
        if self.shape[1:] not in sides.values():
            told = " or ".join(f"[3, {side}, {side}]" for side in sides)
            raise ValueError(f"shape: there are digits for {self.source} of {told}, not of {list(self.shape)}")
        return self

    def state(self, place: Place) -> list[Any]:
        """The package whose digits they are."""
        return DIGITS[self.shape[1] // 2].state()

    def splits(self, place: Place) -> tuple[Split, Split]:
        train, test = DIGITS[self.shape[1] // 2].parts()
        return self.split("train", self.train_images, train), self.split("test", self.test_images, test)

    @abstractmethod
    def split(self, name: str, count: int, digits: Images) -> Split:
        """So many images of these digits."""


def cell_at(cell: int, side: int) -> tuple[slice, slice]:
    """The rows and columns of a cell of so many pixels a side."""
    row, column = divmod(cell, 2)
    return slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)
