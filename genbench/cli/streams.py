"""The standard streams, whoever is at their other end: results go to stdout, and none of them need be open."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TextIO

from genbench.support.errors import EnvironmentProblem
from genbench.support.text import spelled


def open_streams() -> None:
    """Give this process and its children the null device in place of each stream that whoever started it has closed.

    Otherwise the next file to be opened would be their stdout, and whatever they print would be written into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is the stream's
            os.set_inheritable(null, True)
            setattr(sys, name, os.fdopen(null, mode, encoding="utf-8"))


def terminal_columns() -> int | None:
    """How wide the terminal is that results are read at; None if they go elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def show(text: str, end: str = "\n") -> None:
    """Print a result on stdout. Raises EnvironmentProblem if it cannot be written, BrokenPipeError if nobody reads."""
    try:
        print(spelled(text, sys.stdout.encoding), end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        discard(sys.stdout)
        what = f"standard output: {error.strerror}"
        raise EnvironmentProblem(what, "free some space, or send the result elsewhere") from error


def discard(stream: TextIO) -> None:
    """Drop what a stream still holds, and all that is written to it from now on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
