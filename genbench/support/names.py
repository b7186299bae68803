"""Names of models, datasets, labels and folders: one pattern, safe in a path, on a web page and in a shell."""

import re

from genbench.support.errors import BadInput

PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def check_name(name: object, where: str) -> str:
    """Return a valid name unchanged. Raises BadInput for any other, with its control characters escaped."""
    if isinstance(name, str) and PATTERN.fullmatch(name) and name.lower() not in RESERVED and not name.endswith("."):
        return name
    raise BadInput(
        f"{where}: {name!r} is not a valid name",
        "at most 64 letters, digits, '.', '_' and '-', beginning with a letter or digit",
    )
