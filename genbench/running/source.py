"""The source of a model of one's own, kept in its run folder: the model can be read, and trained again, from there."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from genbench.extension.sources import foreign_files, root_of, shipped
from genbench.records.code import SOURCE, CodeStamp
from genbench.records.job import Job
from genbench.support import store
from genbench.support.text import impersonal, shortened

if TYPE_CHECKING:
    from genbench.extension.registry import Plugins

MOST_BYTES = 2**20
"""Of all files of a plugin together; of a larger one none is kept."""
LONGEST_DOCSTRING = 4000


def keep_source(job: Job, plugins: Plugins) -> CodeStamp:
    """Store the files of the model's plugin below `source/`, unless they ship with genbench.

    Returns what a record says of them, which is not where they lay. Raises EnvironmentProblem if nothing can be
    written into the run's folder.
    """
    model, info = plugins.model(job.model)
    files = foreign_files(info.plugin)
    if not all(map(str.isprintable, files)) or sum(file.stat().st_size for file in files.values()) > MOST_BYTES:
        files = {}
    for name, file in files.items():
        _keep(file.read_bytes(), job.folder / SOURCE / name)
    module = sys.modules[model.__module__]
    package = model.__module__.split(".")[0]
    defining = Path(module.__file__ or "")
    docstring = inspect.cleandoc(model.__doc__ or module.__doc__ or "")
    if package in shipped():
        place = f"plugins/{defining.relative_to(root_of(sys.modules[package])).as_posix()}"
    else:
        place = next((f"{SOURCE}/{name}" for name, file in files.items() if file.samefile(defining)), "")
    return CodeStamp(
        ships=package in shipped(), file=place, docstring=shortened(impersonal(docstring), LONGEST_DOCSTRING)
    )


def _keep(content: bytes, path: Path) -> None:
    """Write a file unless it is there, with this content, already."""
    if not (path.is_file() and path.read_bytes() == content):
        with store.atomic_file(path) as temporary:
            temporary.write_bytes(content)
