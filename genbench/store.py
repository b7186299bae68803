"""All writing to disk: temporary file, fsync, rename; and the lock that keeps a second process out of a run folder."""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genbench.errors import Busy, CorruptData, EnvironmentProblem

if TYPE_CHECKING:
    import numpy as np
    import torch

TEMPORARY = ".genbench_tmp_"
KEPT_BYTES = 2**28
"""Memory-mapped arrays up to this size keep the pages that were read."""


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 of settings as canonical JSON, so that equal settings have equal digests."""
    return digest(json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the many faces of a full, read-only or forbidden disk into one EnvironmentProblem naming the path."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise EnvironmentProblem(f"{path}: no space left to write", "free some space, then run again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            raise EnvironmentProblem(f"{path}: cannot write: {error.strerror}", "choose another folder") from error
        if error.errno is None:  # NumPy's report of a short write
            raise EnvironmentProblem(f"{path}: no space left to write ({error})", "free some space") from error
        raise


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that becomes it, flushed and renamed, when the block ends without exception."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{TEMPORARY}{os.getpid()}_{path.name}")
        try:
            yield temporary
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_folder(path: Path, flushed: bool = True) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends without exception.

    Where it is not `flushed`, the kernel writes its files when it likes: for what can be made again after a power cut.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{TEMPORARY}{os.getpid()}_{path.name}")
        old = path.with_name(f"{TEMPORARY}{os.getpid()}_old_{path.name}")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*") if flushed else ():
                sync(file)
            if path.exists():
                path.replace(old)
            try:
                temporary.replace(path)
            except BaseException:
                if old.exists():
                    old.replace(path)
                raise
            sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder; only the holder of its lock may."""
    for leftover in folder.rglob(f"{TEMPORARY}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, plain: Any) -> None:
    """Strict JSON: a number that is not finite raises ValueError instead of being written."""
    write_text(path, json.dumps(plain, indent=1, allow_nan=False) + "\n")


def append_json(path: Path, plain: Mapping[str, Any]) -> None:
    """One JSON object as a further line; readers tolerate a last line cut short by a crash."""
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(plain, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Parsed JSON; CorruptData names the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise CorruptData(f"{path}: not JSON: {error}", "remove it and run again") from error


def write_array(path: Path, array: np.ndarray) -> None:
    import numpy as np

    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


@contextmanager
def array_pieces(path: Path, dtype: type, shape: tuple[int, ...]) -> Iterator[Callable[[bytes], object]]:
    """Write the .npy file of an array, in a folder of `atomic_folder`, by a function that takes its bytes in pieces.

    No more of it than a piece is ever in memory.
    """
    import numpy as np

    about = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, about)
        yield file.write


def release(array: np.ndarray) -> None:
    """Let go of the pages of a large memory-mapped array that were read: the system's cache keeps them while it can.

    Otherwise they would count as memory of this process, which is all of the array once all of it was read.
    """
    import numpy as np

    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and len(owner) > KEPT_BYTES and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def read_array(path: Path) -> np.ndarray:
    """A memory-mapped array, copied on write; CorruptData names the file."""
    import numpy as np

    try:
        array: np.ndarray = np.load(path, mmap_mode="c", allow_pickle=False)
        return array
    except (ValueError, EOFError) as error:
        raise CorruptData(f"{path}: not an array: {error}", "remove it and run again") from error


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Tensors by name as safetensors; tensors that share memory are stored once each."""
    from safetensors.torch import save_file

    with atomic_file(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, temporary)
        temporary.chmod(0o666 & ~_umask())


def _umask() -> int:
    """The process's file mode mask, which safetensors ignores: its files are the owner's alone."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name, on the CPU; CorruptData names the file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CorruptData(f"{path}: not safetensors: {error}", "remove it and run again") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; raises Busy, naming the holder, where a live process has it.

    A POSIX record lock dies with its process even when children live on (flock would not).
    """
    import fcntl

    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a+")
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise Busy(f"{folder}: in use by {holder}", "wait for it, or use another --out") from error
        file.seek(0)
        file.truncate()
        file.write(f"{socket.gethostname()}, process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        file.flush()
        yield
