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
    """The files of the suites that ship, by name: the default, then the others in the order of their names."""
    files = {file.stem: file for file in sorted(FOLDER.glob("*.toml"), key=lambda file: file.stem)}
    return {QUICK: files[QUICK], **files}


def shipped_name(suite: Path | None) -> str | None:
    """The name of the suite that ships and is meant; None for a file, which comes first, and for an unknown name."""
    if suite is None:
        return QUICK
    return str(suite) if str(suite) in shipped_suites() and not look(suite).is_file() else None


def suite_file(suite: Path | None) -> Path:
    """The file of a suite that is given by its path or by the name of one that ships; None is the default.

    A path is returned whatever is there; raises BadInput for what can only be a name, and is none.
    """
    if name := shipped_name(suite):
        return shipped_suites()[name]
    assert suite is not None
    is_name = PATTERN.fullmatch(str(suite)) and not suite.suffix
    return suite if not is_name or look(suite).exists() else find_shipped(str(suite))


def find_shipped(name: str) -> Path:
    """The file of a suite that ships. Raises BadInput for an unknown name."""
    known = shipped_suites()
    if name in known:
        return known[name]
    near = nearest(name, set(known))
    meant = f"did you mean {near[0]!r}? " if near else ""
    raise BadInput(f"no suite {name!r} ships, nor is it a file", f"{meant}these ship: {', '.join(known)}")
