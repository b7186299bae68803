"""Templates -> pages: all that comes from a record is escaped, and its control characters are made visible."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from genbench import __version__
from genbench.faults import fault
from genbench.report.facts import Protocol
from genbench.safe_text import printable
from genbench.store import put
from genbench.style import Look
from genbench.tables import ending
from genbench.wording import NO_BREAK, detail_text, has_value, heading_text, number, runs_text, value_text

MANY = 10
"""Runs of a row that are linked one by one, and whose samples and curves are shown; all are in the list of runs."""


def visible(value: Any) -> Any:
    """Text with its control and direction characters made visible; line ends stay."""
    if isinstance(value, Markup) or not isinstance(value, str) or value.isprintable():
        return value
    return printable(value, "\n\t" + NO_BREAK)


@dataclass
class Notes:
    """The footnotes of one table's dashes, numbered in the order in which they appear, each written once."""

    texts: list[str] = field(default_factory=list)

    def mark(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


@dataclass
class Pages:
    """Writes pages that share their links: runs to their pages, numbers to their protocols."""

    slugs: dict[str, str]
    looks: dict[str, Look]
    protocols: dict[str, Protocol]
    suffixes: list[str]

    @cached_property
    def environment(self) -> Environment:
        environment = Environment(
            loader=PackageLoader("genbench.report"), autoescape=True, undefined=StrictUndefined, finalize=visible,
            trim_blocks=True, lstrip_blocks=True, auto_reload=False,
        )  # fmt: skip
        environment.globals |= {
            "version": __version__, "slugs": self.slugs, "looks": self.looks, "protocols": self.protocols,
            "suffixes": self.suffixes, "value_text": value_text, "heading_text": heading_text, "number": number,
            "runs_text": runs_text, "has_value": has_value, "detail_text": detail_text, "ending": ending,
            "Notes": Notes, "many": MANY,
        }  # fmt: skip
        return environment

    def write(self, template: str, path: Path, root: str, **context: Any) -> None:
        """Render a template into a file; `root` is the way from the file's folder to the report's."""
        fault("report.page")
        put(path, self.environment.get_template(template).render(root=root, **context))
