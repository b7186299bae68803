"""What it takes to train a run again: its command, the versions behind it, and the source of its model."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from genbench.records.code import SOURCE, CodeStamp
from genbench.records.record import PluginStamp, Record
from genbench.records.run_folder import vouched

SHIPS, OWN = "ships with genbench", "own plugin"


@dataclass(frozen=True)
class Code:
    """A model's code as its page shows it: from which plugin, the text of each file that was kept, and whose it is."""

    stamp: CodeStamp
    plugin: PluginStamp
    records: list[Record] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)


def codes(records: Iterable[Record]) -> list[Code]:
    """The code behind the records, each once. Raises CorruptData if a file of it has changed."""
    found: dict[str, Code] = {}
    for record in records:
        if record.code is not None:
            plugin = record.environment.plugin
            if plugin.digest not in found:
                found[plugin.digest] = Code(record.code, plugin, files=source_of(record))
            found[plugin.digest].records.append(record)
    return list(found.values())


def source_of(record: Record) -> dict[str, str]:
    """The source of a run's model by the files' names; empty if it ships with genbench, or was not kept."""
    found = {}
    for name in sorted(record.files):
        if name.startswith(f"{SOURCE}/") and (file := vouched(record, name)) is not None:
            found[name.removeprefix(f"{SOURCE}/")] = file.read_text(encoding="utf-8", errors="replace")
    return found


def origin(records: Iterable[Record]) -> str:
    """Whether the model of some records is one of genbench's own; "" if they do not say."""
    found = {OWN if not record.code.ships else SHIPS for record in records if record.code is not None}
    return ", ".join(sorted(found))


def command(record: Record, folder: str = "") -> str:
    """What to type into a shell; `folder` is that of the run, if its plugin is to be loaded from there.

    A training of so many seconds depends on the number of threads, which the environment limits.
    """
    words = list(record.command)
    if folder:
        words = _with_source(words, record, folder)
    threads = f"OMP_NUM_THREADS={record.environment.threads} " if record.job.budget.is_timed else ""
    return threads + shlex.join(words)


def _with_source(words: list[str], record: Record, folder: str) -> list[str]:
    """The words with the plugin of the model from the run's folder, however it was found before."""
    kept = dict.fromkeys(PurePosixPath(name).parts[1] for name in record.files if name.startswith(f"{SOURCE}/"))
    for top in kept:
        path = f"{folder}/{SOURCE}/{top}"
        if top in words:
            words[words.index(top)] = path
        else:
            words += ["--plugin", path]
    return words


def versions(record: Record) -> str:
    """`genbench 0.1.0, torch 2.10.0, Python 3.11.9, plugin gan 0.1.0 (source abc12345)`."""
    environment, plugin = record.environment, record.environment.plugin
    source = f" (source {plugin.source})" if plugin.source else ""
    return (
        f"genbench {environment.genbench}, torch {environment.torch}, Python {environment.python}, "
        f"plugin {plugin}{source}"
    )
