"""One bad input, and the files that it needs."""

from __future__ import annotations

import io
import shlex
import struct
import zipfile
import zlib
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


def encrypted(content: bytes, name: str = "images.npy", password: bytes = b"secret") -> bytes:
    """The bytes of an archive with one member, encrypted as section 6.1 of PKWARE's APPNOTE describes."""
    table = list(range(256))
    for _ in range(8):
        table = [entry >> 1 ^ (0xEDB88320 if entry & 1 else 0) for entry in table]
    keys = [0x12345678, 0x23456789, 0x34567890]

    def stir(byte: int) -> None:
        keys[0] = keys[0] >> 8 ^ table[(keys[0] ^ byte) & 0xFF]
        keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = keys[2] >> 8 ^ table[(keys[2] ^ keys[1] >> 24) & 0xFF]

    for byte in password:
        stir(byte)
    checksum, secret = zlib.crc32(content), bytearray()
    for byte in bytes(11) + bytes([checksum >> 24]) + content:
        key = keys[2] | 2
        secret.append(byte ^ (key * (key ^ 1) >> 8 & 0xFF))
        stir(byte)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, bytes(secret))
        (member,) = archive.infolist()
        member.flag_bits, member.CRC, member.file_size = member.flag_bits | 1, checksum, len(content)
    written = bytearray(out.getvalue())  # the member's own header, which is written before its content
    written[6] |= 1
    written[14:18], written[22:26] = struct.pack("<I", checksum), struct.pack("<I", len(content))
    return bytes(written)


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
