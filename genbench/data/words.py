"""Captions as numbers: words and punctuation marks of a vocabulary that is made of the training captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from genbench.condition import ConditionSpec
from genbench.data.source import Split

END, UNKNOWN, FIRST = 0, 1, 2
"""The number of what stands behind the last word, of words that are not in the vocabulary, and of its first word."""


def words_of(caption: str) -> list[str]:
    """Its words and punctuation marks, in lower case."""
    return re.findall(r"\w+|[^\w\s]", caption.lower())


@dataclass(frozen=True)
class Vocabulary:
    """Words in the order of their numbers, which begin at FIRST."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, captions: Iterable[str], size: int) -> Vocabulary:
        """The words of captions, in alphabetical order; if numbers below `size` do not suffice, the most frequent."""
        counted = Counter(word for caption in captions for word in words_of(caption))
        often = sorted(counted, key=lambda word: (-counted[word], word))[: size - FIRST]
        return cls(tuple(sorted(often)))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, FIRST)}

    def encode(self, captions: Sequence[str], length: int) -> np.ndarray:
        """Numbers, int32 (N, length), of the first `length` words of each caption."""
        found = np.full((len(captions), length), END, np.int32)
        for row, caption in zip(found, captions):
            numbers = [self._numbers.get(word, UNKNOWN) for word in words_of(caption)[:length]]
            row[: len(numbers)] = numbers
        return found

    def unknown(self, caption: str) -> list[str]:
        """Its words that are not in the vocabulary."""
        return [word for word in dict.fromkeys(words_of(caption)) if word not in self._numbers]


def with_texts(
    splits: Mapping[str, Split], conditions: Iterable[ConditionSpec]
) -> tuple[Mapping[str, Split], tuple[str, ...]]:
    """The splits with the `text` of their captions, and the words that its numbers stand for.

    Captions are kept beside it as bytes, which can be memory-mapped. Splits without captions are given back.
    """
    spec = next((condition for condition in conditions if condition.kind == "text"), None)
    if spec is None or any("captions" not in split.conditions.get("text", {}) for split in splits.values()):
        return splits, ()
    captions = {name: read(split.conditions["text"]["captions"]) for name, split in splits.items()}
    vocabulary, (length, *_) = Vocabulary.of(captions["train"], spec.size), spec.shape
    found = {}
    for name, split in splits.items():
        text = {"text": vocabulary.encode(captions[name], length), "captions": stored(captions[name])}
        remarks = (*split.remarks, *_remarks(name, captions[name], vocabulary, length))
        found[name] = replace(split, conditions={**split.conditions, "text": text}, remarks=remarks)
    return found, vocabulary.words


def _remarks(name: str, captions: Sequence[str], vocabulary: Vocabulary, length: int) -> list[str]:
    """What to say of captions whose words are not all used."""
    long = sum(len(words_of(caption)) > length for caption in captions)
    strange = sum(bool(vocabulary.unknown(caption)) for caption in captions)
    told = [(long, f"more than {length} words, of which the others are not read"), (strange, "words that are unknown")]
    return [f"{count:,} {name} captions have {what}" for count, what in told if count]


def stored(captions: Iterable[Any]) -> np.ndarray:
    """Captions as an array of their bytes; what is no text, but says why there is none, is empty."""
    return np.array([caption.encode() if isinstance(caption, str) else b"" for caption in captions])


def read(captions: np.ndarray) -> list[str]:
    """Captions of an array of strings or of their bytes."""
    return [caption.decode() if isinstance(caption, bytes) else caption for caption in captions.tolist()]
