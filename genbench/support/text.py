"""Text from elsewhere made safe to show or store (control characters visible, no credentials); numbers as text."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress

SECRET_NAME = re.compile(r"(?:^|[_-])(?:token|secret|password|passwd|credentials?|auth|api_?key|access_?key)$", re.I)
"""Names of options and environment variables whose value is a secret."""
HIDDEN = "***"
_USER_OF_URL = re.compile(r"\b([a-z][a-z0-9+.-]*:(?://|/(?=[^\s/@:]+:)))[^\s/@]+@", re.I)
"""Also matches a URL whose second slash was lost when it was treated as a path."""
_SHORTEST = 8


def printable(text: str, keep: str = "") -> str:
    r"""The text with control and direction characters made visible (`\x1b`): safe on a terminal and on a page."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def redacted(text: str) -> str:
    """The text without user and password in URLs and without the values of secret environment variables."""
    text = _USER_OF_URL.sub(rf"\1{HIDDEN}@", text)
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and SECRET_NAME.search(name):
            text = text.replace(value, HIDDEN)
    return text


def impersonal(text: str) -> str:
    """A message as a record may keep it: redacted, with `~` for the home folder."""
    home = os.path.expanduser("~")  # noqa: PTH111  which fails for nobody, as Path.home does without an account
    return redacted(text).replace(home, "~") if len(home) > 1 else redacted(text)


def is_secret(name: str, value: object) -> bool:
    """Whether a value given under this name is a secret, which must not be stored where others can read it."""
    return isinstance(value, str) and bool(value) and (bool(SECRET_NAME.search(name)) or redacted(value) != value)


def summary(doc: str | None) -> str:
    """The first line of a docstring."""
    return (doc or "").strip().partition("\n")[0]


def shortened(text: str, longest: int) -> str:
    """The text, cut to `longest` characters of which the last is an ellipsis if it is longer."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def plain(text: str) -> str:
    """The text with nothing that moves the cursor, whatever names are in it; line breaks and tabs stay."""
    return printable(text, "\n\t\xa0")


STAND_INS = {
    "≤ ": "<=", "≤": "<=", "≥": ">=", " ± ": " +-", "±": "+-", "–": "-", "─": "-", "…": "~", "↓": "v", "↑": "^",
    "†": "+", "‡": "!", "×": "x", "σ": "s", "→": ">", "\xa0": " ",
}  # fmt: skip
"""What is written for a character that a stream's encoding lacks, in as much room where there is a space beside it."""


def spelled(text: str, encoding: str | None) -> str:
    """The text with plain characters for those of ours that an encoding lacks."""
    if text.isascii() or encoding is None:
        return text
    for sign, plain_sign in STAND_INS.items():
        try:
            sign.encode(encoding)
        except (UnicodeEncodeError, LookupError):
            text = text.replace(sign, plain_sign)
    return text


def say(text: str) -> None:
    """Print a line on stderr, redacted; nobody need be listening."""
    with suppress(OSError):
        print(printable(redacted(text), "\t\xa0"), file=sys.stderr, flush=True)


DASH = "–"


def significant(value: float, digits: int = 3) -> int:
    """How many decimals show `digits` significant digits, at most six."""
    return 2 if value == 0 else min(6, max(0, digits - 1 - math.floor(math.log10(abs(value)))))


def _with_decimals(decimals: Callable[[float], int], unit: str = "", scale: float = 1) -> Callable[[float, float], str]:
    def write(value: float, like: float) -> str:
        return f"{value / scale:,.{decimals(abs(like) / scale)}f}{unit}"

    return write


def _parameters(value: float, like: float) -> str:
    for scale, unit in ((1e9, " G"), (1e5, " M"), (1e3, " k")):
        if abs(like) >= scale:
            scale = {1e5: 1e6}.get(scale, scale)
            return f"{value / scale:,.{significant(like / scale)}f}{unit}"
    return f"{value:,.0f}"


STYLES: dict[str, Callable[[float, float], str]] = {
    "fid": _with_decimals(lambda a: 0 if a >= 1000 else 1 if a >= 100 else 2),
    "score": _with_decimals(lambda a: 2),
    "bits": _with_decimals(lambda a: 3),
    "share": _with_decimals(lambda a: 3),
    "kid": _with_decimals(significant),
    "rate": _with_decimals(significant),
    "seconds": _with_decimals(lambda a: 0 if a >= 1000 else 1),
    "count": _with_decimals(lambda a: 0 if a >= 1000 or a == int(a) else 1),
    "bytes": _with_decimals(lambda a: 0, " MiB", 2**20),
    "si": _parameters,
    "days": lambda value, like: f"{value:.3g}",
    "flops": lambda value, like: f"{value:.2e}".replace("e+", "e").replace("e0", "e") if value else "0",
}
"""Each formats its first argument with the decimals that suit its second, so that an error matches its value."""


def number(value: float, style: str) -> str:
    """The number in one of the STYLES."""
    return STYLES[style](value, value)


def list_words(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *front, last = words
    return f"{', '.join(front)} and {last}" if front else last


def duration(seconds: float) -> str:
    """`0.4 s`, `25 s`, `3 min`, `2.5 h`: seconds as a person says them."""
    if seconds < 100:
        return f"{max(seconds, 0.1):.1f} s" if 0 < seconds < 10 and seconds % 1 else f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.1f} min" if seconds < 600 and seconds % 60 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
