"""Errors a user can meet, each with a message, a hint and the exit code of the command that stops on it."""


class GenbenchError(Exception):
    """What went wrong and where, in one line; `hint` says how to mend it."""

    exit_code = 70
    code = "bug"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


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


class Terminated(KeyboardInterrupt):
    """SIGTERM: the command stops as by Ctrl-C, and exits with 143."""


def did_you_mean(word: str, known: "list[str] | set[str]") -> str:
    """`did you mean 'ddpm'?`, or the list of what is known when nothing is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, sorted(known), n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(repr(name) for name in near) + "?"
    return "known: " + (", ".join(sorted(known)) or "none")
