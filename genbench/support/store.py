"""All writing to disk (temporary file, fsync, rename), and the reading of what was written."""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

from genbench.support.denials import TEMPORARY, disk_errors, reading
from genbench.support.digests import digest
from genbench.support.errors import CorruptData, removal
from genbench.support.faults import fault

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import DTypeLike

OLD = "old"
LONGEST_NAME = 200
"""Bytes of a name that still fits, with what a temporary one adds, into the 255 of most file systems."""
DRAWN, MEASURED = "drawn", "measured"
"""Folders of a run that hold parts of unfinished work: samples, and measurements."""
UNREADABLE = (ValueError, EOFError, SyntaxError, TokenError)
"""What NumPy raises for a file that is not an array: it parses the header as Python."""
KEPT_BYTES = 2**28
"""Memory-mapped arrays up to this size keep the pages that were read in memory."""


def sync(path: Path) -> None:
    """Flush a file or folder to the disk, as far as its file system can: not all can flush a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and its parents so that they survive a power cut."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def _temporary(path: Path) -> Path:
    """A new name beside `path`, which `sweep` recognises, and `_sweep_dead` as one for that path."""
    return path.with_name(f"{TEMPORARY}{os.getpid()}_{secrets.token_hex(3)}_{_short(path.name)}")


def _short(name: str) -> str:
    """The name, or a digest of one so long that no prefix would fit before it."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= LONGEST_NAME else digest(encoded)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A folder beside `path` to write in, safe from sweeping while this process lives, and removed at the end.

    A single file gets a folder too: whatever a library creates beside the file it writes is removed with it.
    """
    import fcntl

    fault("store.begin")
    make_folder(path.parent)
    _sweep_dead(path)
    while True:
        folder = _temporary(path)
        folder.mkdir()
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # swept before it was locked
            continue
        with suppress(OSError):  # a file system without such locks, where nobody sweeps
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():  # and was not swept meanwhile
            break
        os.close(descriptor)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _sweep_dead(path: Path) -> None:
    """Remove what a process killed while writing `path` has left beside it."""
    import fcntl

    for leftover in path.parent.iterdir():
        own = re.fullmatch(rf"{re.escape(TEMPORARY)}\d+_[0-9a-f]+_(.*)", leftover.name, re.DOTALL)
        if own is None or own[1] != _short(path.name):
            continue
        with suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _clear(leftover, path)
            finally:
                os.close(descriptor)


def _clear(leftover: Path, path: Path) -> None:
    """Remove a leftover; a folder that was moved aside for a successor that never came is put back."""
    if (leftover / OLD).exists() and not path.exists():
        (leftover / OLD).replace(path)
    shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path`, flushed and renamed, when the block ends without exception."""
    with disk_errors(path), _beside(path) as folder:
        temporary = folder / path.name
        yield temporary
        fault("store.written")
        sync(temporary)
        with suppress(OSError):  # an empty folder in its place; anything else stays
            path.rmdir()
        temporary.replace(path)
        fault("store.renamed")
        sync(path.parent)


@contextmanager
def atomic_folder(path: Path, flushed: bool = True) -> Iterator[Path]:
    """A temporary folder that replaces `path` when the block ends without exception.

    If not `flushed`, its files reach the disk when the kernel likes: for what can be made again after a power cut.
    """
    with disk_errors(path), _beside(path) as folder:
        temporary = folder / path.name
        temporary.mkdir()
        yield temporary
        fault("store.folder_written")
        for file in (*temporary.rglob("*"), temporary) if flushed else ():
            sync(file)
        if not _placed(temporary, path) and not _exchange(temporary, path):
            path.replace(folder / OLD)
            temporary.replace(path)
        fault("store.folder_renamed")
        sync(path.parent)


def _placed(folder: Path, path: Path) -> bool:
    """Rename a folder to a free path; False if the path is taken, perhaps by another process just now."""
    try:
        folder.replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        return False
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths atomically; False if the system or file system cannot."""
    libc, swap, here = ctypes.CDLL(None), 2, -100 if sys.platform == "linux" else -2
    rename = getattr(libc, "renameat2", None) or getattr(libc, "renameatx_np", None)
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), swap) == 0


def is_temporary(path: Path) -> bool:
    """Whether a path belongs to an unfinished write or removal."""
    return any(part.startswith(TEMPORARY) for part in path.parts)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder; only the holder of its lock may call this."""
    for leftover in folder.rglob(f"{TEMPORARY}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove a folder, or a file, if it exists; if killed, this leaves it whole or in a state that `sweep` removes."""
    aside = _temporary(folder)
    with suppress(OSError):
        folder.replace(aside)
        if not aside.is_dir():
            aside.unlink()
    shutil.rmtree(aside, ignore_errors=True)


def put(path: Path, content: str | bytes) -> None:
    """Write a file in a folder of `atomic_folder`, which flushes and renames the whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_encoded(content) if isinstance(content, str) else content)


def write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_bytes(_encoded(text))


def _encoded(text: str) -> bytes:
    r"""The text as UTF-8; bytes of a name that are not UTF-8 are written out (`\udce9`)."""
    return text.encode("utf-8", "backslashreplace")


def scratch_file(path: Path) -> FileIO:
    """An unbuffered file to write in: its content survives the process, but not a power cut."""
    with disk_errors(path):
        return path.open("wb", buffering=0)


def keep_text(text: str) -> Path:
    """Write a new file in the system's temporary folder, for text that has no other place; it is never removed."""
    with tempfile.NamedTemporaryFile(prefix="genbench-", suffix=".txt", delete=False) as file:
        file.write(_encoded(text))
    return Path(file.name)


def write_json(path: Path, plain: Any) -> None:
    """Write strict JSON. Raises ValueError for a number that is not finite."""
    write_text(path, json.dumps(plain, indent=1, allow_nan=False) + "\n")


def append_json(path: Path, plain: Mapping[str, Any]) -> None:
    """Append one JSON object as a line; readers tolerate a last line cut short by a crash."""
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(plain, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Parsed JSON. Raises CorruptData naming the file."""
    try:
        with reading(path):
            return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"{path}: not JSON: {error}", removal(path)) from error


def refuse_constant(name: str) -> None:
    """For json's `parse_constant`: raise ValueError for NaN and infinity, which Python reads and JSON has not."""
    raise ValueError(f"{name} is not JSON")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file that `append_json` wrote, numbers that are not finite as None.

    A last line cut short by a crash is left out. Raises CorruptData naming the file and line of any other bad one.
    """
    found: list[dict[str, Any]] = []
    with reading(path):
        texts = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text, parse_constant=lambda name: None)
            if not isinstance(line, dict):
                raise ValueError("not an object")
        except ValueError as error:
            if number == len(texts) and not text.endswith("\n"):
                break
            raise CorruptData(f"{path}:{number}: {error}", removal(path)) from error
        found.append(line)
    return found


def write_array(path: Path, array: np.ndarray) -> None:
    import numpy as np

    with atomic_file(path) as temporary, array_pieces(temporary, array.dtype, array.shape) as write:
        write(np.ascontiguousarray(array).data)


@contextmanager
def array_pieces(
    path: Path, dtype: DTypeLike, shape: tuple[int, ...]
) -> Iterator[Callable[[bytes | memoryview], object]]:
    """Write the .npy file of an array as its bytes come in pieces, taken by the function that this yields.

    Never more than one piece is in memory. Unlike `numpy.save`, it passes on the number of an error of the disk.
    """
    import numpy as np

    about = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, about)
        yield file.write


def release(array: np.ndarray) -> None:
    """Release the pages of a large memory-mapped array that were read; the system's cache keeps them while it can.

    Otherwise they would count as memory of this process, up to the size of the array.
    """
    import numpy as np

    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and len(owner) > KEPT_BYTES and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def read_array(path: Path) -> np.ndarray:
    """A memory-mapped array, copied on write. Raises CorruptData naming the file."""
    import numpy as np

    try:
        with reading(path):
            array = np.load(path, mmap_mode="c", allow_pickle=False)
        if isinstance(array, np.ndarray):
            return array
        raise ValueError("an archive")
    except UNREADABLE as error:
        what = "objects, which are never read" if "ickle" in str(error) or "Python objects" in str(error) else error
        raise CorruptData(f"{path}: not an array: {what}", removal(path)) from error


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors by name as safetensors; each of several that share memory is stored in full."""
    from safetensors.torch import save, save_file

    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_file(path) as temporary:
        if _is_utf8(path):
            save_file(plain, temporary)
        else:
            temporary.write_bytes(save(plain))
        temporary.chmod(0o666 & ~_umask())


def _is_utf8(path: Path) -> bool:
    """Whether safetensors takes the path: at another, a file is read and written whole, in twice the memory."""
    return not re.search("[\ud800-\udfff]", str(path))


def _umask() -> int:
    """The process's file mode mask, which safetensors ignores: it makes files that only the owner can read."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name, on the CPU. Raises CorruptData naming the file."""
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    try:
        with reading(path):
            return load_file(path) if _is_utf8(path) else load(path.read_bytes())
    except SafetensorError as error:
        raise CorruptData(f"{path}: not safetensors: {error}", removal(path)) from error
