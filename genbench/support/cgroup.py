"""What the control groups of this process (Linux, versions 1 and 2) let it use, as containers and batch systems say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path

SYSTEM = Path("/")


def memory_limits() -> list[int]:
    """Bytes that this process's groups may use, each a limit."""
    files = chain(_files("", "memory.max"), _files("memory", "memory.limit_in_bytes"))
    return [int(text) for text in map(_text, files) if text.isdecimal()]


def cpu_limits() -> list[float]:
    """CPUs that this process's groups may use, each a limit: 1.5 is three halves of the time of one."""
    limits = [_text(file).split() for file in _files("", "cpu.max")]
    for file in _files("cpu", "cpu.cfs_quota_us"):
        limits.append([_text(file), _text(file.with_name("cpu.cfs_period_us"))])
    return [int(words[0]) / int(words[1]) for words in limits if len(words) == 2 and all(map(_is_positive, words))]


def throttled_seconds() -> float | None:
    """Seconds in which quotas kept processors from this process's groups, each counted; None if nothing is counted."""
    words = [line.split() for file in _quota_files(SYSTEM) for line in _text(file).splitlines()]
    units = {"throttled_usec": 1e-6, "throttled_time": 1e-9}
    found = [int(value) * units[name] for name, value in (pair for pair in words if len(pair) == 2) if name in units]
    return sum(found) if found else None


@cache
def _quota_files(_system: Path) -> tuple[Path, ...]:
    """Found once: they are read at every pause of a training."""
    return tuple(file for file in chain(_files("", "cpu.stat"), _files("cpu", "cpu.stat")) if file.is_file())


def _files(controller: str, name: str) -> Iterator[Path]:
    """The files of this name in the process's groups, innermost first; the controller "" is version 2's.

    A container may see its own group as the root of all, whatever the path that the kernel gives.
    """
    root = SYSTEM / "sys/fs/cgroup" / controller
    for line in _text(SYSTEM / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            group = root / path.lstrip("/")
            yield from (folder / name for folder in (group, *group.parents) if folder.is_relative_to(root))


def _text(file: Path) -> str:
    with suppress(OSError):
        return file.read_text(encoding="ascii").strip()
    return ""


def _is_positive(word: str) -> bool:
    return word.isdecimal() and int(word) > 0
