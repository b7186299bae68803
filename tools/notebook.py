"""Execute docs/notebook.ipynb once more and keep what it shows: `python tools/notebook.py` (extra `docs`).

It runs in an empty folder with a cache of its own, so that its outputs are those of a new user and name no machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"


def execute(notebook: Path, folder: Path) -> str:
    """The notebook with fresh outputs, as JSON; it is executed in `folder`. Raises if a cell does."""
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(notebook, as_version=4)
    os.environ["GENBENCH_CACHE"] = str(folder / "cache")
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    for number, cell in enumerate(book.cells):
        cell.metadata, cell.id = {}, f"cell-{number}"
    book.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return nbformat.writes(book) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        NOTEBOOK.write_text(execute(NOTEBOOK, Path(temporary)), encoding="utf-8")
    sys.stdout.write(f"{NOTEBOOK}: executed\n")
