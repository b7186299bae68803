"""Errors a user can meet, each with a message, a hint and the exit code of the command that stops on it."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any, TypeVar

from genbench.support import errors


class GenbenchError(Exception):
    """What went wrong and where, in one line; `hint` says how to mend it."""

    exit_code = 70
    code = "bug"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems: list[GenbenchError] = []

    def as_dict(self) -> dict[str, Any]:
        """The error as plain data; `problems` where it is several."""
        plain = {"code": self.code, "exit": self.exit_code, "message": self.message, "hint": self.hint}
        return plain | ({"problems": [problem.as_dict() for problem in self.problems]} if self.problems else {})


class BadInput(GenbenchError):
    """A mistake in the command line, a configuration, a dataset, a plugin or a name; found before anything ran."""

    exit_code = 2
    code = "bad-input"


class CorruptData(GenbenchError):
    """Stored data that cannot be read or does not match its digest or schema."""

    exit_code = 3
    code = "corrupt-data"


class EnvironmentProblem(GenbenchError):
    """A device, weight file, network, permission, package or disk space that is not there."""

    exit_code = 4
    code = "environment"


class Busy(GenbenchError):
    """A run folder that a live process is working in."""

    exit_code = 5
    code = "busy"


class Diverged(GenbenchError):
    """A loss or gradient that is not finite; the job ends with status `diverged`."""

    exit_code = 1
    code = "diverged"


class ProcessFailed(GenbenchError):
    """One of the processes that train a model together ended; the job ends with status `failed`."""

    exit_code = 1
    code = "process-failed"


class Cancelled(GenbenchError):
    """Stopped by a signal, after a checkpoint; running again goes on from there."""

    exit_code = 130
    code = "cancelled"


MOST_PROBLEMS = 20
LOADERS = ("genbench", "importlib", "pluggy", "contextlib")
"""Packages whose code runs before a plugin's own when it is loaded."""
E = TypeVar("E", bound=GenbenchError)


def together(problems: Sequence[E]) -> E:
    """Several errors of one kind as one; a single one as it is."""
    if len(problems) == 1:
        return problems[0]
    common = problems[0].hint if len({each.hint for each in problems}) == 1 else ""
    told = [
        each.message if common or not each.hint else f"{each.message} ({each.hint})"
        for each in problems[:MOST_PROBLEMS]
    ]
    more = len(problems) - MOST_PROBLEMS
    told += [f"and {more} more"] if more > 0 else []
    mend = f"mend all {len(problems)}{f': {common}' if common else ', then run again'}"
    whole = type(problems[0])("; ".join(told), mend)
    whole.problems = list(problems[:MOST_PROBLEMS])
    return whole


def message_of(error: BaseException) -> str:
    """What an exception says, or its type where it says nothing or cannot be asked."""
    if isinstance(error, GenbenchError):
        return error.message
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__


def described(error: BaseException) -> str:
    """What one of our errors says; of any other exception, its type too."""
    return error.message if isinstance(error, GenbenchError) else f"{type(error).__name__}: {error}"


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, cut to 200 characters."""
    return (message_of(error).strip() or type(error).__name__).splitlines()[0][:200]


def describe(error: BaseException) -> str:
    """An exception in one line, with the file and line of a syntax error."""
    if isinstance(error, BadInput):
        return f"{error.message} ({error.hint})" if error.hint else error.message
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    text = " ".join(message_of(error).split())
    return f"{type(error).__name__}: {text[:300]}"


def line_of(error: BaseException) -> str:
    """The plugin's own last line that an exception of Python's has passed, as a syntax error tells its line."""
    if isinstance(error, GenbenchError | SyntaxError):
        return ""
    frames = [(frame.f_globals.get("__name__", ""), frame.f_code.co_filename, line) for frame, line in
              traceback.walk_tb(error.__traceback__)]  # fmt: skip
    own = [(name.split(".")[0], file, line) for name, file, line in frames if name.split(".")[0] not in LOADERS]
    lines = [f" ({file}, line {line})" for name, file, line in own if name == own[0][0]]
    return lines[-1] if lines else ""


def did_you_mean(word: str, known: list[str] | set[str]) -> str:
    """`did you mean 'ddpm'?`, or the list of what is known when nothing is near."""
    from difflib import get_close_matches

    by_lower = {name.lower(): name for name in sorted(known)}
    near = [by_lower[name] for name in get_close_matches(word.lower(), by_lower, n=3, cutoff=0.5)]
    if near:
        return "did you mean " + " or ".join(repr(name) for name in near) + "?"
    return "known: " + (", ".join(sorted(known)) or "none")


def plain_error(error: GenbenchError) -> dict[str, str]:
    """The error as plain data."""
    return {"kind": type(error).__name__, "message": error.message, "hint": error.hint}


def as_error(plain: dict[str, str]) -> GenbenchError:
    """The error that `plain_error` took apart; one of an unknown kind counts as a mistake of ours."""
    kind = getattr(errors, plain["kind"], GenbenchError)
    error: GenbenchError = kind(plain["message"], plain["hint"])
    return error
