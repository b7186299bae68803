"""The files of a prepared dataset, and whether they are still those that were prepared.

`dataset.json` has the SHA-256 of every array beside it. `checked.json` says when the arrays were last read whole and
compared with it, and the size, times and inode that each had then: while these stay the same, an opening costs a few
calls of stat. A program can restore the time of a change to the content (mtime), but not that of the inode (ctime).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import permutations
from pathlib import Path
from typing import Any

from genbench.support import store
from genbench.support.digests import file_digest, settings_digest
from genbench.support.errors import CorruptData, EnvironmentProblem, removal
from genbench.support.sealed import changed, check_digest, read_sealed, write_sealed

ABOUT, MARK = "dataset.json", "checked.json"
NEEDED = ("digest", "overlap")
"""What is said of every prepared dataset."""
CHECKED_NS = 30 * 86_400 * 10**9
"""How long a check is relied upon: bits that rot change no time."""
TICK_NS = 50 * 10**6
"""A file changed so shortly before its check may have been changed once more without getting another time."""
PIECE = 1024
"""Images hashed at a time."""
States = dict[str, list[int]]


def seal(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `dataset.json`, the facts and the digest of every array, and the mark of this first check."""
    about = {**facts, "files": {file.name: file_digest(file) for file in _arrays(folder)}}
    write_sealed(folder / ABOUT, about)
    _mark(folder, about, _states(folder), time.time_ns())


def checked(folder: Path, needed: tuple[str, ...] = NEEDED) -> dict[str, Any]:
    """The content of `dataset.json`, with what is `needed`, once the arrays are known to be those that it describes.

    They are read whole, which a mark then spares the next process, unless a mark says that this has been done. Of
    processes that train one model together only the first checks. Raises as `read_whole`.
    """
    said, states, now = read_about(folder, needed), _states(folder), time.time_ns()
    if _is_marked(folder, said, states, now):
        return said
    about = read_whole(folder, needed)
    with suppress(EnvironmentProblem):  # a cache that only its owner may write
        if about != said:
            write_sealed(folder / ABOUT, about)
        _mark(folder, about, states, now)
    return about


def read_whole(folder: Path, needed: tuple[str, ...] = NEEDED) -> dict[str, Any]:
    """The content of `dataset.json`, after all arrays are read and compared with it; writes nothing.

    An earlier version's has no digests of files, which are added: the dataset's own then vouches for them. Raises
    CorruptData naming the file.
    """
    about, fix = read_about(folder, needed), remedy(folder)
    names = [file.name for file in _arrays(folder)]
    if "files" not in about:
        found = list(_content_digests(folder))
        if about["digest"] not in found:
            raise CorruptData(f"{folder}: images or labels {changed(about['digest'], found[0], ABOUT)}", fix)
        return {**about, "files": {name: file_digest(folder / name) for name in names}}
    for name in sorted({*names, *about["files"]}):
        if name not in about["files"]:
            raise CorruptData(f"{folder / name}: not a file of this dataset", fix)
        check_digest(folder / name, about["files"][name], ABOUT, fix)
    return about


def remedy(folder: Path) -> str:
    """The way out of a damaged preparation."""
    return removal(folder, then="then run again: it is prepared anew from its source")


def read_about(folder: Path, needed: tuple[str, ...] = NEEDED) -> dict[str, Any]:
    """The content of `dataset.json`, whatever the arrays hold. Raises CorruptData if it has changed."""
    about = read_sealed(folder / ABOUT, remedy(folder), required=False)
    if not about.keys() >= set(needed):
        raise CorruptData(f"{folder / ABOUT}: not the description of a prepared dataset", remedy(folder))
    return about


def _arrays(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npy"))


def _states(folder: Path) -> States:
    """Size, times and inode of every array: what no change of a file leaves as it was."""
    found = {}
    for file in _arrays(folder):
        about = file.stat()
        found[file.name] = [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]
    return found


def _mark(folder: Path, about: Mapping[str, Any], states: States, at: int) -> None:
    write_sealed(folder / MARK, {"about": settings_digest(about), "at": at, "files": states})


def _is_marked(folder: Path, about: Mapping[str, Any], states: States, now: int) -> bool:
    try:
        mark = read_sealed(folder / MARK, "")
    except CorruptData:
        return False
    if mark["about"] != settings_digest(about) or mark["files"] != states or not 0 <= now - mark["at"] < CHECKED_NS:
        return False
    return all(ctime + TICK_NS < mark["at"] for _, _, ctime, _ in states.values())


def _content_digests(folder: Path) -> Iterator[str]:
    """The dataset's digest as the preparation computes it, for each order of its kinds of conditions."""
    stems = sorted(file.stem for file in _arrays(folder))
    names = {
        split: [stem.removeprefix(f"{split}_") for stem in stems if stem.startswith(f"{split}_")]
        for split in ("train", "test")
    }
    kinds = {name.partition("_")[0] for name in names["train"]} - {"images", "labels"}
    for order in permutations(sorted(kinds)):
        content = hashlib.sha256()
        for split, found in names.items():
            images = store.read_array(folder / f"{split}_images.npy")
            for start in range(0, len(images), PIECE):
                content.update(images[start : start + PIECE].tobytes())
                store.release(images)
            content.update(repr((split, images.shape)).encode())
            if "labels" in found:
                content.update(store.read_array(folder / f"{split}_labels.npy").tobytes())
            for kind in order:
                for key in (name.removeprefix(f"{kind}_") for name in found if name.startswith(f"{kind}_")):
                    array = store.read_array(folder / f"{split}_{kind}_{key}.npy")
                    content.update(repr((split, kind, key, array.dtype.str, array.shape)).encode() + array.tobytes())
        yield content.hexdigest()
