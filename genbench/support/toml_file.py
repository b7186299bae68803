"""TOML files written by people, read with limits; mistakes are reported by file and line."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genbench.support.errors import BadInput
from genbench.support.user_text import read_user_text

Keys = Sequence[str | int]


@dataclass(frozen=True)
class TomlFile:
    """The tables of a file, and its text, in which the line of a key can be looked up."""

    path: Path
    tables: dict[str, Any]
    text: str

    def at(self, keys: Keys) -> str:
        """`suite.toml:12`, the line that sets the keys or the first of them; the file alone if no line does."""
        line = line_of(self.text, tuple(keys))
        return f"{self.path}:{line}" if line else str(self.path)


def read_toml(path: Path, what: str) -> TomlFile:
    """Read a file; `what` names its kind. Raises BadInput or EnvironmentProblem naming file, line and column."""
    text = read_user_text(path, what, "TOML")
    try:
        return TomlFile(path, tomllib.loads(text), text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(*_syntax(path, text, str(error))) from error
    except RecursionError:
        raise BadInput(f"{path}: nested too deeply", f"a {what} file has few levels") from None


def written(value: Any) -> str:
    """A value as TOML: `0.001`, `"ddim"`, `[1, 2]`. Raises TypeError for None, which TOML does not have."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(key)} = {written(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    if value is None:
        raise TypeError("no value")
    return json.dumps(value, ensure_ascii=False)


def _syntax(path: Path, text: str, said: str) -> tuple[str, str]:
    """tomllib's `Expected ... (at line 1, column 8)` as `suite.toml:1:8: Expected ...`."""
    place = re.search(r" \(at line (\d+), column (\d+)\)$", said)
    if place:
        return f"{path}:{place[1]}:{place[2]}: {said[: place.start()]}", "correct the TOML there"
    lines = text.rstrip("\n").split("\n")
    said = said.removesuffix(" (at end of document)")
    return f"{path}:{len(lines)}:{len(lines[-1]) + 1}: {said}", "the TOML ends too early"


def line_of(text: str, keys: tuple[str | int, ...]) -> int | None:
    """The line, counted from 1, that sets the longest prefix of `keys`; None if no line does."""
    found, length = None, 0
    table: tuple[str | int, ...] = ()
    counts: dict[tuple[str | int, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        head = re.match(r"\s*(\[\[?)([^\[\]]+)\]", line)
        setting = re.match(r"\s*([^=#\[\]{}]+?)\s*=", line)
        if head:
            table = _indexed(_names(head[2]), counts, further=head[1] == "[[")
            place = table
        elif setting:
            place = (*table, *_names(setting[1]))
        else:
            continue
        if len(place) > length and place == keys[: len(place)]:
            found, length = number, len(place)
    return found


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(r""""[^"]*"|'[^']*'|[^.\s]+""", text))


def _indexed(
    names: tuple[str, ...], counts: dict[tuple[str | int, ...], int], further: bool
) -> tuple[str | int, ...]:  # fmt: skip
    """The keys of a table's header, with an index after the name of an array of tables."""
    place: tuple[str | int, ...] = ()
    for index, name in enumerate(names):
        place = (*place, name)
        if further and index == len(names) - 1:
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place
