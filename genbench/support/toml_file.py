"""TOML files written by people, read with limits; mistakes are reported by file and line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genbench.support.denials import denial
from genbench.support.errors import BadInput

LIMIT_BYTES = 256 * 2**10
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
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
        if len(content) > LIMIT_BYTES:
            raise BadInput(f"{path}: more than {LIMIT_BYTES // 2**10} KiB", f"{what} files are short; check the path")
        text = content.decode("utf-8-sig")  # Windows editors put a byte-order mark before it
        return TomlFile(path, tomllib.loads(text), text)
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{path}: no such {what} file", "correct the path") from None
    except IsADirectoryError:
        raise BadInput(f"{path}: is a folder", f"give a {what} file (TOML)") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}", "save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise BadInput(*_syntax(path, text, str(error))) from error
    except RecursionError:
        raise BadInput(f"{path}: nested too deeply", f"a {what} file has few levels") from None
    except OSError as error:
        raise denial(error, path) or error from error


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
