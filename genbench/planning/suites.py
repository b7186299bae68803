"""The suites that ship, by name, and what `genbench run NAME` means."""

from __future__ import annotations

from pathlib import Path

from genbench.support.denials import look
from genbench.support.errors import BadInput, nearest
from genbench.support.names import PATTERN

FOLDER = Path(__file__).parent.parent / "suites"
QUICK = "quick"
"""The suite of a command that names neither a suite nor a model."""


def shipped_suites() -> dict[str, Path]:
    """The files of the suites that ship, by name, in the order of their names but for the default, which leads."""
    files = {file.stem: file for file in sorted(FOLDER.glob("*.toml"))}
    return {QUICK: files[QUICK], **files}


def shipped_name(suite: Path | None) -> str | None:
    """The name of the suite that ships and is meant; None for a file, which comes first, and for an unknown name."""
    name = QUICK if suite is None else str(suite)
    is_own = suite is not None and look(suite).is_file()
    return name if not is_own and name in shipped_suites() else None


def suite_file(suite: Path | None) -> Path:
    """The file of a suite that is given by its path or by the name of one that ships; None is the default.

    Raises BadInput for a word that is neither and looks like a name; a path is the reader's affair.
    """
    if name := shipped_name(suite):
        return shipped_suites()[name]
    assert suite is not None
    if PATTERN.fullmatch(str(suite)) and suite.suffix != ".toml" and not look(suite).exists():
        near = nearest(str(suite), set(shipped_suites()))
        meant = f"did you mean {near[0]!r}? " if near else ""
        known = ", ".join(shipped_suites())
        hint = f"{meant}these ship: {known}; or give the path of a suite's file"
        raise BadInput(f"{suite}: neither a suite that ships nor a file", hint)
    return suite
