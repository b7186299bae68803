"""The entries of datasets files: datasets by name, each with its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from genbench.data.source import Source
from genbench.data.sources import SOURCES
from genbench.support.digests import source_digest
from genbench.support.errors import BadInput, GenbenchError, did_you_mean, together
from genbench.support.names import check_name
from genbench.support.text import printable
from genbench.support.toml_file import Keys, read_toml
from genbench.support.validation import checked

BUNDLED_FILE = Path(__file__).parent.with_name("datasets.toml")
EXAMPLE = 'for example [mine], source = "folder", path = "images", shape = [3, 32, 32]'
Kinds = Mapping[str, type[Source]]
"""Kinds of source by name."""


class Registry(Protocol):
    """What plugins registered by a hook: name -> (value, plugin)."""

    def registered(self, hook: str) -> Mapping[str, tuple[Any, str]]: ...


@dataclass(frozen=True)
class Entry:
    """A dataset by name: its source, the folder that its relative paths start from, and where it was declared.

    `code` is the digest of the file that a plugin's kind of source is defined in, "" for genbench's own kinds.
    """

    name: str
    source: Source
    base: Path
    origin: str
    code: str = ""


def read_entries(file: Path, kinds: Kinds = SOURCES) -> dict[str, Entry]:
    """The datasets of a TOML file. Raises BadInput naming file, line, dataset and key of every mistake."""
    entries: dict[str, Entry] = {}
    problems: list[GenbenchError] = []
    read = read_toml(file, "datasets")
    if not read.tables:
        raise BadInput(f"{file}: no dataset in it", EXAMPLE)
    for name, table in read.tables.items():
        try:
            entries[name] = make_entry(name, table, file.resolve().parent, str(file), kinds, read.at)
        except BadInput as problem:
            problems += problem.problems or [problem]
    if problems:
        raise together(problems)
    return entries


def make_entry(
    name: str, table: Any, base: Path, origin: str, kinds: Kinds = SOURCES, at: Callable[[Keys], str] | None = None
) -> Entry:
    """One dataset from its table; `at` says where keys were written. Raises BadInput naming every wrong key."""

    def where(keys: Keys) -> str:
        return f"{at([name, *keys]) if at else origin} [{printable(name)}]"

    check_name(name, where([]))
    if not isinstance(table, Mapping):
        raise BadInput(f"{where([])}: a dataset is a table", f"begin it with [{name}]")
    kind = table.get("source")
    if not isinstance(kind, str) or kind not in kinds:
        raise BadInput(f"{where(['source'])}: source = {kind!r}", did_you_mean(str(kind), set(kinds)))
    keys = ", ".join(key for key in kinds[kind].model_fields if key != "source")
    source = checked(kinds[kind], table, where, f"the keys of source = {kind!r} are {keys}")
    return Entry(name, source, base, origin, "" if kind in SOURCES else source_digest(kinds[kind]))


def known_datasets(files: Iterable[Path] = (), plugins: Registry | None = None) -> dict[str, Entry]:
    """All datasets by name: bundled, registered by plugins, and in the user's files.

    Raises BadInput for a bad entry, and for a dataset or a kind of source that is there twice.
    """
    kinds, tables = known_kinds(plugins), plugins.registered("register_datasets") if plugins else {}
    known = read_entries(BUNDLED_FILE)
    others = [
        make_entry(name, table, Path.cwd(), f"plugin {plugin}", kinds) for name, (table, plugin) in tables.items()
    ]
    for entry in [*others, *(entry for file in files for entry in read_entries(file, kinds).values())]:
        if entry.name in known:
            raise BadInput(
                f"dataset {entry.name!r} is in {known[entry.name].origin} and in {entry.origin}", "rename one"
            )
        known[entry.name] = entry
    return known


def known_kinds(plugins: Registry | None = None) -> Kinds:
    """All kinds of source by name: genbench's own and those that plugins registered."""
    registered = plugins.registered("register_sources") if plugins else {}
    return SOURCES | {name: kind for name, (kind, _) in registered.items()}
