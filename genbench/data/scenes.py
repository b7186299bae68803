"""Generated scenes: one or two coloured digits in four cells, and a caption by a grammar that says all or a part of it.

What a caption means is known exactly: the set of scenes it is true of. Some leave the place free, in which case each is
equally likely. Of the 40 pairs of a digit and a colour, 8 never occur in training, and say whether a model has learned
colours and digits or their pairs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, permutations

import numpy as np

from genbench.condition import ConditionSpec
from genbench.data.bundled import Images
from genbench.data.cells import CELLS, Cells, cell_at
from genbench.data.source import Split
from genbench.support.seeds import derive_seed

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
EMPTY = -1
"""What a cell without a digit holds; the others hold 10 times the colour's index, plus the digit."""
HELD_OUT = tuple(10 * (digit % 4) + digit for digit in range(8))
"""The pairs that never occur in training."""
PAIRS = tuple(pair for pair in range(10 * len(COLOURS)) if pair not in HELD_OUT)
WORDS, LENGTH = 64, 16
"""More than the grammar has words, and than a caption has."""
Places = tuple[tuple[int, ...], ...]
"""Each way to place the things that a caption names: the cell of the first, and that of the second."""

CORNERS = ("top left", "top right", "bottom left", "bottom right")
OTHER_CORNERS = ("upper left", "upper right", "lower left", "lower right")
ABOVE: Places = ((0, 2), (1, 3))
BESIDE: Places = ((0, 1), (2, 3))


def _forms() -> dict[str, Places]:
    """Every form of a caption, with {0} and {1} for the things, and the places it leaves them."""
    anywhere: Places = tuple((cell,) for cell in range(CELLS))
    forms: dict[str, Places] = {"a {0}": anywhere, "one {0}": anywhere, "there is a {0}": anywhere}
    for cell, (corner, other) in enumerate(zip(CORNERS, OTHER_CORNERS)):
        forms |= {f"a {{0}} at the {corner}": ((cell,),), f"a {{0}} in the {other} corner": ((cell,),)}
    forms |= {"a {0} above a {1}": ABOVE, "a {0} over a {1}": ABOVE}
    forms |= {"a {1} below a {0}": ABOVE, "a {1} under a {0}": ABOVE}
    forms |= {"a {0} left of a {1}": BESIDE, "a {0} to the left of a {1}": BESIDE}
    forms |= {"a {1} right of a {0}": BESIDE, "a {1} to the right of a {0}": BESIDE}
    forms |= {"a {0} and a {1}": tuple(permutations(range(CELLS), 2))}
    forms |= {"two {0}s": tuple(combinations(range(CELLS), 2))}
    forms |= {"two {0}s side by side": BESIDE, "two {0}s one above the other": ABOVE}
    for first, second in permutations(range(CELLS), 2):
        forms[f"a {{0}} at the {CORNERS[first]} and a {{1}} at the {CORNERS[second]}"] = ((first, second),)
    return forms


FORMS = _forms()
KINDS: dict[str, tuple[str, ...]] = {
    "one": tuple(form for form, places in FORMS.items() if len(places[0]) == 1),
    "two": tuple(form for form, places in FORMS.items() if len(places[0]) == 2),
}
"""The forms by the number of things."""


@dataclass(frozen=True)
class Meaning:
    """What a caption says: its things, as cells hold them, and the places it leaves them."""

    things: tuple[int, ...]
    places: Places

    @property
    def scenes(self) -> np.ndarray:
        """The scenes (S, CELLS) that it is true of."""
        found = np.full((len(self.places), CELLS), EMPTY)
        for scene, cells in zip(found, self.places):
            scene[list(cells)] = self.things
        return found

    @property
    def is_new(self) -> bool:
        """Whether it names a pair that never occurs in training."""
        return any(thing in HELD_OUT for thing in self.things)


def name_of(thing: int) -> str:
    """Such as `red 3`."""
    return f"{tuple(COLOURS)[thing // 10]} {thing % 10}"


@lru_cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    thing = rf"({'|'.join(COLOURS)}) (\d)"
    return [(re.compile(re.sub(r"\{\d\}", lambda _: thing, form)), form) for form in FORMS]


@lru_cache(maxsize=100_000)
def meaning(caption: str) -> Meaning:
    """What a caption of the grammar says. Raises ValueError for any other text."""
    for pattern, form in _patterns():
        if (found := pattern.fullmatch(caption)) is None:
            continue
        colours, digits = found.groups()[::2], found.groups()[1::2]
        said = [10 * tuple(COLOURS).index(colour) + int(digit) for colour, digit in zip(colours, digits)]
        if form.startswith("two"):
            said *= 2
        elif form.find("{1}") != -1 and form.find("{1}") < form.find("{0}"):
            said.reverse()
        return Meaning(tuple(said), FORMS[form])
    raise ValueError(f"{caption!r} is no caption of the grammar, such as 'a red 3 above a blue 7'")


class Scenes(Cells):
    """Scenes of bundled digits: training scenes of training digits, test scenes of test digits and of all pairs."""

    def conditions(self) -> tuple[ConditionSpec, ...]:
        return (ConditionSpec("text", (LENGTH,), WORDS),)

    def judge(self) -> str:
        return "scenes"

    def split(self, name: str, count: int, digits: Images) -> Split:
        pairs = PAIRS if name == "train" else (*PAIRS, *HELD_OUT)
        random = np.random.default_rng(derive_seed("scenes", self.seed, name))
        captions, scenes = zip(*(_drawn(random, pairs) for _ in range(count)))
        items = _painted(np.stack(scenes), digits, derive_seed("digits", self.seed, name))
        return Split(count, items, {"text": {"captions": np.array(captions)}})


def _drawn(random: np.random.Generator, pairs: tuple[int, ...]) -> tuple[str, np.ndarray]:
    """A caption, and one of the scenes (CELLS,) that it is true of."""
    forms = KINDS["one" if random.random() < 0.5 else "two"]
    form = forms[random.integers(len(forms))]
    first, second = (name_of(pairs[index]) for index in random.choice(len(pairs), 2, replace=False))
    caption = form.format(first, second)
    scenes = meaning(caption).scenes
    return caption, scenes[random.integers(len(scenes))]


def _painted(scenes: np.ndarray, digits: Images, seed: int) -> Iterator[tuple[np.ndarray, int]]:
    """Images, uint8 (3, H, W), of scenes (N, CELLS), and their labels; `digits` are (M, 1, h, w) and their labels."""
    images, labels = digits
    of_digit = [np.flatnonzero(labels == digit) for digit in range(10)]
    palette, side = np.array(list(COLOURS.values())), images.shape[2]
    random = np.random.default_rng(seed)
    for scene in scenes:
        image = np.zeros((3, 2 * side, 2 * side), np.uint8)
        for cell in np.flatnonzero(scene != EMPTY):
            colour, digit = divmod(int(scene[cell]), 10)
            drawn = images[random.choice(of_digit[digit])].astype(int) * palette[colour][:, None, None] // 255
            image[:, *cell_at(int(cell), side)] = drawn
        yield image, int(scene[scene != EMPTY][0]) % 10
