"""The reference rows: where each stands in a table, and what it says there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """A reference row by its name: its place around the models, its footnote, what it is in short, and its line in
    plots as dashes and colour, if it has one."""

    name: str
    above: bool
    footnote: str
    short: str
    line: tuple[str, str] | None = None


REFERENCE_ROWS = {
    row.name: row
    for row in (
        Reference(
            "real", True,
            "real is the floor (held-out real images: training images against the test set, test images against the "
            "training set)",
            "held-out real images: the floor", ("--", "#6f6f7b"),
        ),
        Reference("copies", True, "copies is what returning training images scores", "training images as samples"),
        Reference("noise", False, "noise the ceiling", "the ceiling", (":", "#8a8a94")),
    )
}  # fmt: skip
"""In the order of a table; the models stand between those above and those below."""
