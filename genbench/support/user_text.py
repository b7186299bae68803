"""Text files written by people: read with limits, and with errors that say what is wrong with the file."""

from __future__ import annotations

from pathlib import Path

from genbench.support.denials import denial
from genbench.support.errors import BadInput

LIMIT_BYTES = 256 * 2**10


def read_user_text(path: Path, what: str, kind: str, limit: int = LIMIT_BYTES) -> str:
    """The text of a file, without a byte-order mark; `what` it is and its `kind` are for messages.

    Raises BadInput or EnvironmentProblem naming the file; BadInput too if it has more than `limit` bytes.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise BadInput(f"{path}: more than {limit // 2**10} KiB", f"{what} files are short; check the path")
        return content.decode("utf-8-sig")  # Windows editors put a byte-order mark before it
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{path}: no such {what} file", "correct the path") from None
    except IsADirectoryError:
        raise BadInput(f"{path}: is a folder", f"give a file ({kind})") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}", "save it as UTF-8") from error
    except OSError as error:
        raise denial(error, path) or error from error
