"""Text that came from elsewhere, made fit to be shown or kept: control characters visible, credentials out."""

from __future__ import annotations

import os
import re
from pathlib import Path

SECRET_NAME = re.compile(r"(?:^|[_-])(?:token|secret|password|passwd|credentials?|auth|api_?key|access_?key)$", re.I)
"""Names of options and environment variables whose text is a secret."""
HIDDEN = "***"
_USER_OF_URL = re.compile(r"\b([a-z][a-z0-9+.-]*:(?://|/(?=[^\s/@:]+:)))[^\s/@]+@", re.I)
"""Also of an address whose second slash a path has taken away."""
_SHORTEST = 8


def printable(text: str, keep: str = "") -> str:
    r"""The text with control and direction characters made visible (`\x1b`): it changes no terminal and no page."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def redacted(text: str) -> str:
    """The text without user and password in URLs, and without the values of environment variables with secrets."""
    text = _USER_OF_URL.sub(rf"\1{HIDDEN}@", text)
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and SECRET_NAME.search(name):
            text = text.replace(value, HIDDEN)
    return text


def impersonal(text: str) -> str:
    """What a record may keep of a message: redacted, and with `~` for the home folder."""
    home = str(Path.home())
    return redacted(text).replace(home, "~") if len(home) > 1 else redacted(text)


def is_secret(name: str, value: object) -> bool:
    """Whether a text that somebody gives under this name would be kept where it can be read, and should not be."""
    return isinstance(value, str) and bool(value) and (bool(SECRET_NAME.search(name)) or redacted(value) != value)
