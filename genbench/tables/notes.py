"""Footnotes by number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Notes:
    """The footnotes of one table, in the order in which they are first used; each is written once."""

    texts: list[str] = field(default_factory=list)

    def number(self, text: str) -> int:
        """The number of a footnote, from 1."""
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1

    def numbered(self) -> Iterable[tuple[int, str]]:
        """The footnotes with their numbers."""
        return enumerate(self.texts, 1)
