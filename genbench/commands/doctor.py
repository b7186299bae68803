"""`genbench doctor`: this machine, where weights, encoders and classifiers are, and what the caches hold."""

from __future__ import annotations

import os
import platform
import shutil
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from genbench.commands.catalogue import Row, plugin_rows
from genbench.data.entries import known_datasets
from genbench.data.folders import cache_root, data_root, folder_of
from genbench.executors.local import available_cores
from genbench.support.denials import may
from genbench.support.errors import GenbenchError, describe
from genbench.support.text import plain
from genbench.support.version import __version__

WIDTH, NAMES = 80, 22
"""Columns of a line, and of the names of single things."""
DOWNLOADED = ("torchvision", "huggingface")
"""Kinds of source whose images are downloaded unless they are there."""
CACHES = ("datasets", "features", "classifiers", "rulers", "encoded")
SECTIONS = {
    "extractor": "feature extractors", "encoder": "encoders of text", "classifier": "local classifiers in the cache",
    "plugin": "plugins",
}  # fmt: skip
"""The heading of each kind of which there are several, which comes before the name of one."""


def doctor_rows() -> list[Row]:
    """What a bug report should begin with: `what` and its `state` in words, and what programs need beside them."""
    import torch

    from genbench.devices import device_name, has_bf16

    cuda = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    rows: list[Row] = [
        {"what": "genbench", "state": __version__},
        {"what": "python", "state": f"{platform.python_version()} on {platform.system()} {platform.machine()}"},
        {"what": "torch", "state": torch.__version__},
        {"what": "cores", "state": f"{available_cores()} to use, of {os.cpu_count()}"},
    ]
    for device in (torch.device("cpu"), *cuda):
        bf16 = ", bf16" if has_bf16(device) else ", no bf16"
        rows.append({"what": str(device), "state": device_name(device) + bf16})
    given = (
        os.environ.get("GENBENCH_WEIGHTS", "GENBENCH_WEIGHTS is not set") + f"; then {torch.hub.get_dir()}/checkpoints"
    )
    rows += [{"what": "data root", "state": _room(lambda: data_root(None))}, {"what": "weights", "state": given}]
    rows += [{"what": "cache", "state": _room(cache_root)}, *cache_rows()]
    extractors = list(extractor_rows())
    rows.append({"what": "offline", "state": offline_words(extractors)})
    states = [("plugin " + row["name"], f"{row['state']} {row['reason']}".strip()) for row in plugin_rows(())]
    plugins: list[Row] = [{"what": what, "state": state} for what, state in states]
    return [*rows, *extractors, *encoder_rows(), *classifier_rows(), *plugins]


def doctor_text(rows: list[Row]) -> str:
    """The rows in lines of 80 columns, those of a kind of which there are several below a heading."""
    lines, section = [], ""
    for row in rows:
        kind, _, name = row["what"].partition(" ")
        if kind in SECTIONS and kind != section:
            lines += ["", SECTIONS[kind]]
        section = kind if kind in SECTIONS else ""
        words, size = (f"  {name}", NAMES + 2) if section else (row["what"], NAMES)
        first = words if len(words) < size else f"{words} "
        text = textwrap.wrap(
            plain(row["state"]), WIDTH, initial_indent=first.ljust(size), subsequent_indent=" " * size,
            break_on_hyphens=False,
        )  # fmt: skip
        lines += text or [first]
    return "\n".join(lines)


def extractor_rows() -> Iterator[Row]:
    """Each extractor, whether it is `ready` or what it lacks, and whether it `needs_network` to be."""
    from genbench.evaluate.extractors import kinds
    from genbench.running.defaults import load_plugins

    weights, registered = None, load_plugins(()).registered("register_extractors")
    with suppress(GenbenchError):
        weights = folder_of("GENBENCH_WEIGHTS")
    for kind in kinds(registered):
        for name in kind.about():
            found = kind.whereabouts(name, weights)
            row = {"what": f"extractor {name}", "kind": kind.label, "ready": found.ready}
            yield row | {"path": found.path, "needs_network": found.downloads, "state": found.words}


def encoder_rows() -> Iterator[Row]:
    """Each frozen encoder of text, and whether it is `ready` or lacks a package."""
    from genbench.data.encoders import missing_packages
    from genbench.running.defaults import load_plugins

    for name, (build, origin) in load_plugins(()).registered("register_encoders").items():
        lacks = missing_packages(build)
        words = f"absent: it needs {', '.join(lacks)}" if lacks else f"ready: --encoder {name}=FOLDER, a local folder"
        yield {"what": f"encoder {name}", "kind": origin, "ready": not lacks, "state": words}


def offline_words(extractors: list[Row]) -> str:
    """What works without a network, and what would be downloaded."""
    ready = [row["what"].partition(" ")[2] for row in extractors if row["ready"]]
    absent = [row["what"].partition(" ")[2] for row in extractors if row["needs_network"]]
    datasets = known_datasets()
    bundled = [name for name, entry in datasets.items() if entry.source.source not in DOWNLOADED]
    words = f"works with {', '.join(ready)}, on {', '.join(bundled)} and your own files"
    others = "other datasets must be in the data root"
    return f"{words}; {others}" + (f"; {len(absent)} extractors would have to be downloaded" if absent else "")


def cache_rows() -> Iterator[Row]:
    """Each part of the cache: what is in it, and its size."""
    with suppress(GenbenchError):
        for part in CACHES:
            folder = cache_root() / part
            own = _inside(folder)
            named = sorted({path.name.rpartition("-")[0] for path in own}) if part in ("datasets", "encoded") else []
            size = sum(_bytes(path) for path in own)
            count = len({path.stem for path in own})
            words = f"{count:,}, {size / 2**20:,.1f} MiB" + (f": {', '.join(named)}" if named else "")
            yield {"what": f"cached {part}", "state": words, "path": str(folder), "count": count, "bytes": size}


def classifier_rows() -> Iterator[Row]:
    """Each local classifier in the cache: its dataset, size, date and accuracy."""
    from genbench.evaluate.classifier import LOCAL_FILE, verify_classifier

    folders: list[Path] = []
    with suppress(GenbenchError):
        folders = _inside(cache_root() / "classifiers")
    for folder in folders:
        row: Row = {"what": f"classifier {folder.name}", "path": str(folder), "bytes": _bytes(folder)}
        try:
            facts = verify_classifier(folder / LOCAL_FILE)
            day = time.strftime("%Y-%m-%d", time.localtime((folder / LOCAL_FILE).stat().st_mtime))
        except (GenbenchError, OSError) as error:
            yield row | {"state": describe(error)}
            continue
        dataset = facts.about.removeprefix("trained here on ")
        right = "" if facts.test_accuracy is None else f", right about {facts.test_accuracy:.0%} of the test images"
        words = (
            f"{facts.num_classes} classes, {facts.train_images:,} images{right}; {row['bytes'] / 2**20:.1f} MiB, {day}"
        )
        row |= {"what": f"classifier {dataset}", "dataset": dataset, "digest": facts.trained_on, "date": day}
        yield row | {"recipe": facts.recipe, "test_accuracy": facts.test_accuracy, "state": words}


def _inside(folder: Path) -> list[Path]:
    """What a folder of the cache holds, as far as it may be read."""
    with suppress(OSError):
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return []


def _bytes(path: Path) -> int:
    """The size of a file, or of all files below a folder, as far as they may be read."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _room(find: Callable[[], Path]) -> str:
    """A folder and the free space there, or why there is none."""
    try:
        path = find()
    except GenbenchError as error:
        return describe(error)
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    notes = "" if path.exists() else " (not created yet)"
    notes += "" if may(existing, os.W_OK | os.X_OK) else " (not writable)"
    return f"{path}{notes}, {shutil.disk_usage(existing).free / 2**30:.0f} GiB free"
