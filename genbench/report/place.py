"""Where a report may be written: nowhere, or in the place of an earlier one."""

from __future__ import annotations

import json
from pathlib import Path

from genbench.errors import BadInput

MARKER = "genbench-report.json"
"""What tells a report of ours, and names its files; a folder without it is never replaced."""


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


def _listed(marker: Path) -> list[str]:
    try:
        files = json.loads(marker.read_text(encoding="utf-8"))["files"]
    except (ValueError, KeyError, TypeError):
        return []
    return [name for name in files if isinstance(name, str)] if isinstance(files, list) else []
