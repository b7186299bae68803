"""Names of classes: which label each has, the one mapping that datasets, samples and commands share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import accumulate, takewhile

from genbench.support.text import printable

LONGEST = 160
"""Characters of a list of names on a page or a terminal."""


def spelt(name: str) -> str:
    """A folder's name as that of a class: control characters visible, composed alike whichever system wrote it."""
    return printable(unicodedata.normalize("NFC", name))


def in_order(names: Iterable[str]) -> list[str]:
    """The names in the order of their labels: by value if all are whole numbers, else as text."""
    names = sorted(names)
    return sorted(names, key=int) if all(map(_is_number, names)) else names


def label_of(word: str, names: Sequence[str], count: int) -> int | None:
    """The label that a word means among `count` classes; `names` is empty if they have none. None if it means none.

    A name stands for its own label. Where names are whole numbers, so does any way to write the number (`07`); where
    none is, and where there are no names, a whole number is the label itself.
    """
    word = spelt(word)
    if word in names:
        return names.index(word)
    if not _is_number(word):
        return None
    if not any(map(_is_number, names)):
        return int(word) if int(word) < count else None
    alike = [label for label, name in enumerate(names) if _is_number(name) and int(name) == int(word)]
    return alike[0] if len(alike) == 1 else None


def listed(names: Sequence[str], longest: int = LONGEST) -> str:
    """The names with commas between them, as many as fit, then how many more there are."""
    ends = accumulate(len(name) + 2 for name in names)
    shown = [name for name, _ in takewhile(lambda each: each[1] - 2 <= longest, zip(names, ends))]
    more = len(names) - len(shown)
    return ", ".join([*shown, *([f"and {more:,} more" if shown else f"{more:,} names"] if more else [])])


def known(names: Sequence[str], count: int) -> str:
    """What `label_of` takes, for a hint."""
    return listed(names) if names else f"0 to {count - 1}"


def _is_number(name: str) -> bool:
    return re.fullmatch("[0-9]{1,255}", name) is not None
