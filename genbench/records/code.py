"""What a run keeps of its model's code: what it says of itself, where it is, and its source if it is not genbench's."""

from __future__ import annotations

from genbench.records.stored import Stored

SOURCE = "source"
"""The folder of a run with the source of its model's plugin, unless that ships with genbench."""


class CodeStamp(Stored):
    """A model's docstring, and the file that defines it.

    `file` is a path in genbench's repository if the model `ships` with it, else below `source/`, where it may be absent
    because the plugin's files were too large.
    """

    ships: bool
    file: str
    docstring: str = ""
