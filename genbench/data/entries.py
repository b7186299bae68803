"""The entries of datasets files: datasets by name, each with its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genbench.data.source import Source
from genbench.data.sources import SOURCES
from genbench.errors import BadInput, GenbenchError, did_you_mean, together
from genbench.names import check_name
from genbench.safe_text import printable
from genbench.toml_file import Keys, read_toml
from genbench.values import checked

BUNDLED_FILE = Path(__file__).parent.with_name("datasets.toml")
KEYS = "the head of the bundled datasets.toml says what each key means"
EXAMPLE = 'for example [mine], source = "folder", path = "images", shape = [3, 32, 32]'


@dataclass(frozen=True)
class Entry:
    """A dataset by name: what datasets.toml says of it, and the folder its relative paths start from."""

    name: str
    source: Source
    base: Path
    origin: str


def read_entries(file: Path) -> dict[str, Entry]:
    """The datasets of a TOML file. Raises BadInput naming file, line, dataset and key of every mistake."""
    found: dict[str, Entry] = {}
    faults: list[GenbenchError] = []
    read = read_toml(file, "datasets")
    if not read.tables:
        raise BadInput(f"{file}: no dataset in it", EXAMPLE)
    for name, table in read.tables.items():
        try:
            found[name] = make_entry(name, table, file.resolve().parent, str(file), read.at)
        except BadInput as fault:
            faults += fault.problems or [fault]
    if faults:
        raise together(faults)
    return found


def make_entry(name: str, table: Any, base: Path, origin: str, at: Callable[[Keys], str] | None = None) -> Entry:
    """One dataset from its table; `at` says where keys were written. Raises BadInput naming each key at fault."""

    def where(keys: Keys) -> str:
        return f"{at([name, *keys]) if at else origin} [{printable(name)}]"

    check_name(name, where([]))
    if not isinstance(table, Mapping):
        raise BadInput(f"{where([])}: a dataset is a table", f"begin it with [{name}]")
    kind = table.get("source")
    if not isinstance(kind, str) or kind not in SOURCES:
        raise BadInput(f"{where(['source'])}: source = {kind!r}", did_you_mean(str(kind), set(SOURCES)))
    return Entry(name, checked(SOURCES[kind], table, where, KEYS), base, origin)


def known_datasets(
    files: Iterable[Path] = (), registered: Mapping[str, tuple[dict[str, Any], str]] | None = None
) -> dict[str, Entry]:
    """All datasets by name: bundled, registered by plugins, and of the user's files. A name twice is an error."""
    known = read_entries(BUNDLED_FILE)
    others = [
        make_entry(name, table, Path.cwd(), f"plugin {plugin}") for name, (table, plugin) in (registered or {}).items()
    ]
    for entry in [*others, *(entry for file in files for entry in read_entries(file).values())]:
        if entry.name in known:
            raise BadInput(
                f"dataset {entry.name!r} is in {known[entry.name].origin} and in {entry.origin}", "rename one"
            )
        known[entry.name] = entry
    return known
