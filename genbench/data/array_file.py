"""Arrays written elsewhere: .npy and .npz files, read without pickle and within limits."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from genbench.support.denials import denial
from genbench.support.errors import BadInput
from genbench.support.store import UNREADABLE

IMAGE_KEYS, LABEL_KEYS = ("images", "arr_0"), ("labels", "arr_1")
MOST_MEMBERS = 100
FREE_BYTES, HIGHEST_RATIO = 2**28, 200
"""An archive may unpack to FREE_BYTES or to HIGHEST_RATIO times its size, whichever is more."""
ENCRYPTED = 0x1
"""The bit of a member's flags that says that it needs a password."""
HINT = "save plain uint8 arrays by numpy.save or numpy.savez"


def read_arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The array of a .npy file, memory-mapped, or the images and labels of a .npz file; objects are refused unread.

    Raises BadInput, or EnvironmentProblem if reading is not permitted.
    """
    try:
        if zipfile.is_zipfile(path):
            check_archive(path)
        loaded = np.load(path, mmap_mode="c", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, None
        with loaded:
            key = next((key for key in IMAGE_KEYS if key in loaded.files), None)
            if key is None:
                names = ", ".join(loaded.files) or "none"
                hint = "name the images `images` (or arr_0) and the labels `labels` (or arr_1)"
                raise BadInput(f"{path}: no array `images`, found {names}", hint)
            labels = next((key for key in LABEL_KEYS if key in loaded.files), None)
            others = {name: shape for name in loaded.files if len(shape := _shape(loaded, name)) > 2 and name != key}
            if others:
                told = ", ".join(f"{name} {shape}" for name, shape in others.items())
                raise BadInput(f"{path}: images in {len(others) + 1} arrays: beside {key}, {told}", "join them in one")
            return loaded[key], None if labels is None else loaded[labels]
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file", "correct the path") from None
    except IsADirectoryError:
        raise BadInput(f"{path}: a folder", "give a .npy or .npz file") from None
    except PermissionError as error:
        raise denial(error, path) or error from error
    except (*UNREADABLE, OSError, MemoryError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        pickled = "Python objects" in str(error) or _is_pickle(path) or "Object arrays" in str(error)
        what = "pickled objects, which are never read" if pickled else "not a .npy or .npz file of arrays, or truncated"
        raise BadInput(f"{path}: {what}", HINT) from error


def agreed(labels: np.ndarray, path: Path, own: np.ndarray | None, archive: Path) -> np.ndarray:
    """The labels of the file `path`. Raises BadInput if the images' archive has labels of its own, and others."""
    if own is not None and not np.array_equal(labels, own):
        raise BadInput(f"{path}: other labels than {archive} has itself", "use one of the two")
    return labels


def check_archive(path: Path) -> None:
    """Raise BadInput for an archive with a password, with too many members, or one that unpacks to too much."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if locked := [member.filename for member in members if member.flag_bits & ENCRYPTED]:
        raise BadInput(f"{path}: {locked[0]} is encrypted", "give an archive without a password")
    if len(members) > MOST_MEMBERS:
        raise BadInput(f"{path}: {len(members):,} members", f"an archive of arrays has at most {MOST_MEMBERS}")
    size, packed = (sum(getattr(member, kind) for member in members) for kind in ("file_size", "compress_size"))
    if size > FREE_BYTES and size > HIGHEST_RATIO * packed:
        largest = max(members, key=lambda member: member.file_size)
        ratio = f"{size // max(1, packed)}:1"
        raise BadInput(
            f"{path}: {largest.filename} unpacks to {largest.file_size:,} bytes, a ratio of {ratio}",
            "save it as .npy, uncompressed",
        )


def _shape(loaded: Any, name: str) -> tuple[int, ...]:
    """The shape of an array of an archive by its header; () for a member that is no array."""
    with loaded.zip.open(f"{name}.npy" if f"{name}.npy" in loaded.zip.namelist() else name) as member:
        try:
            version = np.lib.format.read_magic(member)
        except ValueError:
            return ()
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape: tuple[int, ...] = read(member)[0]
        return shape


def _is_pickle(path: Path) -> bool:
    """Whether the file begins like a pickle of protocol 2 or later."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError:
        return False
    return len(start) == 2 and start[0] == 0x80 and start[1] in range(2, 6)
