"""Generated maps of one to three digits' silhouettes, and images of them whose distribution given the map is known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from genbench.condition import ConditionSpec
from genbench.data.bundled import Images
from genbench.data.cells import CELLS, Cells, cell_at
from genbench.data.mixture import BLOCK, FREQUENCIES
from genbench.data.regions import COLOURS, Regions, make_regions
from genbench.data.source import Split
from genbench.support.seeds import derive_seed

BACKGROUND = 10
"""The class of pixels without a digit; the others have that of their digit."""
INK = 128
"""The least level of a digit's silhouette."""
MOST = 3
"""Digits of a map, at most."""


class Maps(Cells):
    """Images of maps of digits, each somewhere in a cell of its own."""

    rank: int = Field(3, ge=1, lt=FREQUENCIES**2)
    noise: float = Field(6.0, ge=6, le=12)

    def conditions(self) -> tuple[ConditionSpec, ...]:
        return (ConditionSpec("map", self.shape[1:], len(COLOURS)),)

    def judge(self) -> str:
        return "maps"

    def law(self) -> Regions:
        return make_regions(self.shape, self.rank, self.noise, self.seed)

    def split(self, name: str, count: int, digits: Images) -> Split:
        stream = np.random.RandomState(derive_seed("maps", self.seed, name) % 2**32)
        maps = np.full((count, *self.shape[1:]), BACKGROUND, np.uint8)
        outlines, side = silhouettes(digits[0]), self.shape[1] // 2
        labels = [_draw(drawn, outlines, digits[1], side, stream) for drawn in maps]
        items = self._coloured(maps, labels, derive_seed("regions", self.seed, name))
        return Split(count, items, {"map": {"map": maps}})

    def _coloured(self, maps: np.ndarray, labels: list[int], seed: int) -> Iterator[tuple[np.ndarray, int]]:
        """Images (3, H, W) of maps (N, H, W), with their labels."""
        law, stream = self.law(), np.random.RandomState(seed % 2**32)
        for start in range(0, len(maps), BLOCK):
            drawn = law.draw(maps[start : start + BLOCK], stream)
            levels = np.rint(drawn).clip(0, 255).astype(np.uint8).reshape(-1, *self.shape)
            yield from zip(levels, labels[start : start + BLOCK])


def silhouettes(images: np.ndarray) -> list[np.ndarray]:
    """Where each digit of (N, 1, h, w) has ink, as bool arrays without empty rows and columns around it."""
    found = []
    for ink in images[:, 0] >= INK:
        rows, columns = (np.flatnonzero(ink.any(axis)) for axis in (1, 0))
        found.append(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return found


def _draw(
    drawn: np.ndarray, outlines: list[np.ndarray], labels: np.ndarray, side: int, stream: np.random.RandomState
) -> int:  # fmt: skip
    """Put digits into an empty map (H, W); the label is that of the first cell that has one."""
    cells = np.sort(stream.permutation(CELLS)[: stream.randint(1, MOST + 1)])
    chosen = stream.randint(len(labels), size=len(cells))
    for cell, index in zip(cells, chosen):
        ink = outlines[index]
        top, left = (stream.randint(side - length + 1) for length in ink.shape)
        inside = drawn[cell_at(int(cell), side)][top : top + ink.shape[0], left : left + ink.shape[1]]
        inside[ink] = labels[index]
    return int(labels[chosen[0]])
