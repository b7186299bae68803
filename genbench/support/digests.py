"""SHA-256 of what numbers depend on, in hex: bytes, files, arrays, settings, and the meaning of source code."""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def array_digest(array: np.ndarray) -> str:
    """SHA-256 of an array's numbers and shape, in hex."""
    import numpy as np

    content = hashlib.sha256(repr((array.dtype.str, array.shape)).encode())
    content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


def settings_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 of settings as canonical JSON, so that equal settings have equal digests."""
    return digest(json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def source_digest(defined: object) -> str:
    """Of the Python file that a class or function is defined in, as `code_digest`; "" if it has none."""
    module = sys.modules.get(getattr(defined, "__module__", ""))
    file = getattr(module, "__file__", None)
    return code_digest(Path(file)) if file else ""


def code_digest(file: Path) -> str:
    """Of what a Python file means: its syntax tree without docstrings, comments and layout.

    The same under every version of Python that reads the file alike: a field of the tree that is empty does not count.
    """
    about = file.stat()
    return _code_digest(file, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=1024)
def _code_digest(file: Path, changed: int, size: int) -> str:
    return digest(json.dumps(_meaning(ast.parse(file.read_bytes()))).encode())


def _meaning(node: ast.AST) -> list[Any]:
    """A node of the syntax tree as nested lists: its kind, then the name and the meaning of each field."""
    if isinstance(node, ast.JoinedStr):  # Python 3.12.0 adds empty parts to some f-strings
        node = ast.JoinedStr(
            [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
        )
    fields = ((name, _field(value)) for name, value in ast.iter_fields(node) if name != "kind")
    return [type(node).__name__, *((name, meaning) for name, meaning in fields if meaning not in (None, []))]


def _field(value: object) -> object:
    if isinstance(value, ast.AST):
        return _meaning(value)
    if isinstance(value, list):
        return [_field(each) for each in value if not _is_text(each)]
    return None if value is None else f"{type(value).__name__} {value!r}"


def _is_text(node: object) -> bool:
    """Whether a statement is a string and nothing else: a docstring, or a comment in the form of one."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
