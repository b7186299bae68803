"""Where a report may be written: in an empty place, or in that of an earlier report."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from genbench.support.errors import BadInput
from genbench.support.paths import below, check_elsewhere, check_writable

MARKER = "genbench-report.json"
"""What marks a folder as a report and names its files; a folder without it is never replaced."""


GENERATOR = b'<meta name="generator" content="genbench'
"""What marks a file as a report, near its beginning."""
READ = 2048


def check_place(out: Path) -> None:
    """Raise BadInput if `out` exists and is anything but a report, or if it is the working folder or contains it."""
    if not out.exists():
        return
    check_elsewhere(str(out), out)
    if not out.is_dir():
        raise BadInput(f"{out}: not a folder", "choose a new folder, or that of an earlier report")
    found = {str(file.relative_to(out)) for file in below(out) if not file.is_dir()}
    if not found:
        return
    if MARKER not in found:
        raise BadInput(
            f"{out}: not a report: it holds no {MARKER}", "choose a new folder, or that of an earlier report"
        )
    foreign = sorted(found - {MARKER} - set(_listed(out / MARKER)))
    if foreign:
        raise BadInput(
            f"{out}: would delete {foreign[0]}, which is not part of the report", "move it, or choose a new folder"
        )


def place_of(out: Path, suffix: str) -> Path:
    """Where a report in one file is written, `.html` or `.zip`: `out`, with the suffix added if it has another.

    Raises BadInput if something else is already there, EnvironmentProblem if it cannot be written.
    """
    out = out.absolute()
    out = out if out.suffix == suffix else out.with_name(f"{out.name}{suffix}")
    if out.is_dir():
        raise BadInput(f"{out}: a folder, not a file", f"choose the name of a new {suffix} file")
    what, ours = {".html": ("a report", _is_page), ".zip": ("an archive of a report", _is_archive)}[suffix]
    if out.exists() and not ours(out):
        raise BadInput(f"{out}: not {what}", "choose a new file, or that of an earlier report")
    check_writable("--out", out.parent)
    return out


def _is_page(file: Path) -> bool:
    with file.open("rb") as stream:
        return GENERATOR in stream.read(READ)


def _is_archive(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith(f"report/{MARKER}") for name in archive.namelist())


def _listed(marker: Path) -> list[str]:
    try:
        files = json.loads(marker.read_text(encoding="utf-8"))["files"]
    except (ValueError, KeyError, TypeError):
        return []
    return [name for name in files if isinstance(name, str)] if isinstance(files, list) else []
