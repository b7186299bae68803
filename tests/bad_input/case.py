"""One bad input, and the files that it needs."""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SMALL = "--budget 20steps --samples 100 --likelihood-images 40 --device cpu"
RUN = f"run -m gaussian -d digits {SMALL}"
Content = str | bytes | np.ndarray | Image.Image | None | Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """`genbench WORDS` in a folder with `files`, the exit code, and texts of its message and hint.

    A file's content is text, bytes, an array, a picture, None for a folder, or what makes it. `denied` names a file
    that may not be opened; with `runs` the folder has finished runs. `shown` is on stdout all the same, and `made` the
    folder that is written.
    """

    words: str | list[str]
    code: int
    texts: str | tuple[str, ...]
    files: Mapping[str, Content] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    denied: str = ""
    runs: bool = False
    shown: str = ""
    made: str = ""

    @property
    def arguments(self) -> list[str]:
        return self.words if isinstance(self.words, list) else shlex.split(self.words)

    def wanted(self) -> tuple[str, ...]:
        return (self.texts,) if isinstance(self.texts, str) else self.texts

    def make(self, folder: Path) -> None:
        for name, content in self.files.items():
            put(folder / name, content)


def put(path: Path, content: Content) -> None:
    """Write one file, or make a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match content:
        case None:
            path.mkdir()
        case str():
            path.write_text(content, encoding="utf-8")
        case bytes():
            path.write_bytes(content)
        case np.ndarray():
            np.save(path, content, allow_pickle=True)
        case Image.Image():
            content.save(path)
        case _:
            content(path)


def npz(**arrays: Any) -> bytes:
    """The bytes of a .npz file."""
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    """The bytes of a .npy file."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def png(mode: str = "L", size: tuple[int, int] = (8, 8), form: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture."""
    out = io.BytesIO()
    Image.new(mode, size).save(out, form, **options)
    return out.getvalue()


def pictures(folder: str, count: int = 4) -> dict[str, Content]:
    """Good 8x8 gray pictures in a folder, no two alike."""
    return {f"{folder}/{i}.png": Image.fromarray(np.full((8, 8), 10 * i, np.uint8)) for i in range(count)}
