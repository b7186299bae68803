"""Where a page's links lead: to other files of the report's folder, or to other parts of the one file."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Protocol

INLINED = {
    ".md": "text/markdown", ".tex": "application/x-tex", ".csv": "text/csv", ".svg": "image/svg+xml",
    ".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp",
}  # fmt: skip
"""The kinds of files that a single file carries; of tables some formats."""


class Links(Protocol):
    """Pages are named by their path without suffix (`runs/a`), files by their path in the report's folder.

    `repeats`: a picture may stand on several pages without being there several times.
    """

    repeats: bool

    def page(self, here: str, there: str, anchor: str = "") -> str:
        """From one page to another, or to an anchor on it; "" if that page is not in the report."""
        ...

    def id(self, here: str, anchor: str) -> str:
        """The id of an element of a page."""
        ...

    def file(self, here: str, path: str) -> str:
        """From a page to a file, to be shown or saved; "" if the report does not carry it."""
        ...


class FolderLinks:
    """Relative paths: the folder opens from disk, wherever it is moved."""

    repeats = True

    def page(self, here: str, there: str, anchor: str = "") -> str:
        fragment = f"#{anchor}" if anchor else ""
        return fragment if here == there and fragment else f"{_root(here)}{there}.html{fragment}"

    def id(self, here: str, anchor: str) -> str:
        return anchor

    def file(self, here: str, path: str) -> str:
        return _root(here) + path


def _root(here: str) -> str:
    return "../" * here.count("/")


class FileLinks:
    """Fragments of one file, and files as `data:` URLs; `folder` holds the files, `pages` are those that are in it."""

    repeats = False

    def __init__(self, folder: Path, pages: set[str]) -> None:
        self.folder = folder
        self.pages = pages

    def page(self, here: str, there: str, anchor: str = "") -> str:
        return f"#{self.id(there, anchor)}" if there in self.pages else ""

    def id(self, here: str, anchor: str) -> str:
        name = here.replace("/", "--")
        return f"{name}--{anchor}" if anchor else name

    def file(self, here: str, path: str) -> str:
        kind = INLINED.get(Path(path).suffix)
        if kind is None:
            return ""
        return f"data:{kind};base64,{base64.b64encode((self.folder / path).read_bytes()).decode()}"
