"""Where a report may be written: where nothing is, or in the place of an earlier one."""

from __future__ import annotations

import json
from pathlib import Path

from genbench.errors import BadInput

MARKER = "genbench-report.json"
"""What tells a report of ours, and names its files; a folder without it is never replaced."""


GENERATOR = b'<meta name="generator" content="genbench'
"""What tells a report in one file, near its beginning."""
READ = 2048


def check_place(out: Path) -> None:
    """Raise BadInput where `out` is there and is not wholly a report of ours."""
    if not out.exists():
        return
    if not out.is_dir():
        raise BadInput(f"{out}: not a folder", "give a new folder, or that of an earlier report")
    found = {str(file.relative_to(out)) for file in out.rglob("*") if not file.is_dir()}
    if not found:
        return
    if MARKER not in found:
        raise BadInput(f"{out}: not a report: it holds no {MARKER}", "give a new folder, or that of an earlier report")
    foreign = sorted(found - {MARKER} - set(_listed(out / MARKER)))
    if foreign:
        raise BadInput(f"{out}: would delete {foreign[0]}, which is not of the report", "move it, or give a new folder")


def check_file(out: Path) -> None:
    """Raise BadInput where `out` is there and is not a report of ours in one file."""
    if out.is_dir():
        raise BadInput(f"{out}: a folder, not a file", "give the name of a new .html file")
    if out.exists() and GENERATOR not in _beginning(out):
        raise BadInput(f"{out}: not a report", "give a new file, or that of an earlier report")


def _beginning(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(READ)


def _listed(marker: Path) -> list[str]:
    try:
        files = json.loads(marker.read_text(encoding="utf-8"))["files"]
    except (ValueError, KeyError, TypeError):
        return []
    return [name for name in files if isinstance(name, str)] if isinstance(files, list) else []
