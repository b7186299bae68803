"""Errors a user can meet, each with a message, a hint and the exit code of the command that stops on it."""

from __future__ import annotations

import re
import shlex
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar


class GenbenchError(Exception):
    """What went wrong and where, in one line; `hint` says how to fix it."""

    exit_code = 70
    code = "bug"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems: list[GenbenchError] = []

    def as_dict(self) -> dict[str, Any]:
        """The error as plain data, with `problems` if it stands for several."""
        plain = {"code": self.code, "exit": self.exit_code, "message": self.message, "hint": self.hint}
        return plain | ({"problems": [problem.as_dict() for problem in self.problems]} if self.problems else {})


class BadInput(GenbenchError):
    """A mistake in the command line, a configuration, a dataset, a plugin or a name, found before anything runs."""

    exit_code = 2
    code = "bad-input"


class CorruptData(GenbenchError):
    """Stored data that cannot be read or does not match its digest or schema."""

    exit_code = 3
    code = "corrupt-data"


class Unreadable(CorruptData):
    """Stored data that this process may not read. It may well be whole: no hint should have it removed."""

    exit_code = 4
    code = "environment"


class EnvironmentProblem(GenbenchError):
    """A missing device, weight file, network, permission, package or disk space."""

    exit_code = 4
    code = "environment"


class Busy(GenbenchError):
    """A run folder in which a live process is working."""

    exit_code = 5
    code = "busy"


class Diverged(GenbenchError):
    """A loss or gradient that is not finite; the job ends with status `diverged`."""

    exit_code = 1
    code = "diverged"


class ProcessFailed(GenbenchError):
    """One of the processes that train a model together died; the job ends with status `failed`."""

    exit_code = 1
    code = "process-failed"


class Cancelled(GenbenchError):
    """Stopped by a signal, after a checkpoint; running again resumes from there."""

    exit_code = 130
    code = "cancelled"


def removal(*paths: Path, then: str = "then run again") -> str:
    """The hint to remove damaged files or folders, as a command that can be pasted, and what to do after it."""
    return f"`rm -rf {' '.join(shlex.quote(str(path)) for path in paths)}`, {then}"


@contextmanager
def leading_to(hint: str) -> Iterator[None]:
    """Give damage that the block finds this way out; what may not be read keeps its own."""
    try:
        yield
    except Unreadable:
        raise
    except CorruptData as error:
        raise CorruptData(error.message, hint) from error


def renaming(folder: Path) -> str:
    """The hint to move a folder out of the way of a file: it may be the user's own, so nothing is removed."""
    return f"`mv {shlex.quote(str(folder))} {shlex.quote(f'{folder}.old')}`, then run again"


def together_removed(hints: Sequence[str]) -> str:
    """One hint for all if each is a `removal` with the same words after the command, or if all are equal; else ""."""
    found = [re.fullmatch("`rm -rf ([^`]+)`(.+)", hint) for hint in hints]
    commands = [match[1] for match in found if match]
    tails = {match[2] for match in found if match}
    if len(commands) == len(hints) and len(tails) == 1:
        return f"`rm -rf {' '.join(dict.fromkeys(commands))}`{tails.pop()}"
    return hints[0] if len(set(hints)) == 1 else ""


MOST_PROBLEMS = 20
LOADERS = ("genbench", "importlib", "pluggy", "contextlib")
"""Packages whose code runs before a plugin's own when it is loaded."""
E = TypeVar("E", bound=GenbenchError)


def together(problems: Sequence[E]) -> E:
    """Combine several errors of one kind into one; a single error is returned unchanged."""
    if len(problems) == 1:
        return problems[0]
    common = together_removed([each.hint for each in problems])
    messages = [
        each.message if common or not each.hint else f"{each.message} ({each.hint})"
        for each in problems[:MOST_PROBLEMS]
    ]
    more = len(problems) - MOST_PROBLEMS
    messages += [f"and {more} more"] if more > 0 else []
    fix = f"fix all {len(problems)}{f': {common}' if common else ', then run again'}"
    whole = type(problems[0])("; ".join(messages), fix)
    whole.problems = list(problems[:MOST_PROBLEMS])
    return whole


def message_of(error: BaseException) -> str:
    """The message of an exception, or its type if the message is empty or cannot be obtained."""
    if isinstance(error, GenbenchError):
        return error.message
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, cut to 200 characters."""
    return (message_of(error).strip() or type(error).__name__).splitlines()[0][:200]


def describe(error: BaseException, longest: int = 300) -> str:
    """An exception in one line: the message and hint of a GenbenchError, else the type and message.

    A syntax error gives its file and line. Only the first `longest` characters of other messages are kept.
    """
    if isinstance(error, GenbenchError):
        return f"{error.message} ({error.hint})" if error.hint else error.message
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    kind, text = type(error).__name__, " ".join(message_of(error).split())
    return kind if text == kind else f"{kind}: {text[:longest]}"


def line_of(error: BaseException) -> str:
    """The last line of the plugin's own code that an exception passed through, in the form of a syntax error's line."""
    if isinstance(error, GenbenchError | SyntaxError):
        return ""
    frames = [(frame.f_globals.get("__name__", ""), frame.f_code.co_filename, line) for frame, line in
              traceback.walk_tb(error.__traceback__)]  # fmt: skip
    own = [(name.split(".")[0], file, line) for name, file, line in frames if name.split(".")[0] not in LOADERS]
    lines = [f" ({file}, line {line})" for name, file, line in own if name == own[0][0]]
    return lines[-1] if lines else ""


def nearest(word: str, known: Collection[str]) -> list[str]:
    """The known words that are close to a mistyped one, the closest first; at most three."""
    from difflib import get_close_matches

    by_lower = {name.lower(): name for name in sorted(known)}
    return [by_lower[name] for name in get_close_matches(word.lower(), by_lower, n=3, cutoff=0.5)]


def did_you_mean(word: str, known: Collection[str]) -> str:
    """`did you mean 'ddpm'?`, or the list of known words if none is close."""
    if near := nearest(word, known):
        return "did you mean " + " or ".join(repr(name) for name in near) + "?"
    return "known: " + (", ".join(sorted(known)) or "none")


def plain_error(error: GenbenchError) -> dict[str, str]:
    """The error as plain data."""
    return {"kind": type(error).__name__, "message": error.message, "hint": error.hint}


def as_error(plain: dict[str, str]) -> GenbenchError:
    """The error that `plain_error` describes; one of an unknown kind counts as a bug in genbench."""
    kinds: list[type[GenbenchError]] = [Unreadable, *GenbenchError.__subclasses__()]
    return {kind.__name__: kind for kind in kinds}.get(plain["kind"], GenbenchError)(plain["message"], plain["hint"])
