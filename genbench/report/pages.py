"""Templates -> pages: all that comes from a record is escaped, and its control characters are made visible."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.environment import TemplateModule
from markupsafe import Markup

from genbench.plots.style import COLOURS
from genbench.records.class_names import listed
from genbench.records.slots import Slot
from genbench.report.again import command, versions
from genbench.report.links import Links
from genbench.report.site import MANY, Page, Site, files_of
from genbench.support.faults import fault
from genbench.support.store import put
from genbench.support.text import number, printable
from genbench.support.version import __version__
from genbench.tables.build import ending
from genbench.tables.filled import filled
from genbench.tables.headlines import Standing
from genbench.tables.layout import Cell, Column, Row
from genbench.tables.notes import Notes
from genbench.tables.ruler import about_words, sizes_text
from genbench.tables.wording import (
    COPYING,
    NO_BREAK,
    UNEQUAL,
    UNRANKED,
    detail_text,
    has_value,
    heading_text,
    row_marks,
    runs_text,
    value_text,
)

POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; img-src {images}; base-uri 'none'; form-action 'none'"
)
"""The Content-Security-Policy: nothing is loaded but what the report itself brings."""
MOST_NAMES = 2000
"""Characters of the names of a dataset's classes."""
ASSETS = ("site.css", "site.js")


def visible(value: Any) -> Any:
    """Text with its control and direction characters made visible; line ends stay."""
    if isinstance(value, Markup) or not isinstance(value, str) or value.isprintable():
        return value
    return printable(value, "\n\t" + NO_BREAK)


def cells(row: Row, keys: Iterable[Slot]) -> list[Cell]:
    """The row's cells in some columns; a dash if its table has no such column."""
    return [row.cells.get(key, Cell(note="not measured")) for key in keys]


def any_has(standings: Iterable[Standing], metric: str) -> bool:
    """Whether any of these rows has a value of a metric or a cost."""
    return any(has_value(cell) for standing in standings for cell in cells(standing.row, [Slot(metric)]))


def sort_value(cell: Cell, style: str) -> str:
    """What a reader's browser sorts a cell by; "" for a dash, which stays below whatever the direction."""
    if cell.value is not None:
        return repr(float(cell.value))
    return repr(cell.interval[0]) if cell.interval else cell.printed if style == "text" else ""


def counts(row: Row, cell: Cell) -> bool:
    """Whether a value may be sorted among the others: no doubted one, no copy, no mean without failed seeds."""
    return not cell.flag and not row.copying and row.n_ok == row.n


def heading(column: Column) -> tuple[str, str]:
    """A column's heading, and what stands in small type below it: extractor or unit."""
    text = heading_text(column)
    head, _, rest = text.partition(" (") if column.heading.endswith(")") and not column.keys[1:] else (text, "", "")
    return head, rest and f"({rest}"


@dataclass
class Pages:
    """Renders the pages of a site, with links that lead where these pages lie."""

    site: Site
    links: Links

    @cached_property
    def environment(self) -> Environment:
        environment = Environment(
            loader=PackageLoader("genbench.report"), autoescape=True, undefined=StrictUndefined, finalize=visible,
            trim_blocks=True, lstrip_blocks=True, auto_reload=False,
        )  # fmt: skip
        environment.globals |= {
            "version": __version__, "site": self.site, "value_text": value_text, "number": number,
            "runs_text": runs_text, "has_value": has_value, "detail_text": detail_text, "ending": ending,
            "cells": cells, "sort_value": sort_value, "counts": counts, "heading": heading, "look": self.look,
            "Notes": Notes, "Slot": Slot, "many": MANY, "repeats": self.links.repeats, "colours": COLOURS,
            "files_of": files_of, "row_marks": row_marks, "marks": (UNRANKED, COPYING, UNEQUAL),
            "about_words": about_words, "sizes_text": sizes_text, "class_names": partial(listed, longest=MOST_NAMES),
            "any_has": any_has, "filled": filled, "command": command, "versions": versions,
        }  # fmt: skip
        return environment

    def look(self, name: str) -> int | None:
        """The number of a model's colour, which is that of its class; None for a name that is no model's."""
        return COLOURS.index(self.site.looks[name][0]) if name in self.site.looks else None

    def write_assets(self, folder: Path) -> None:
        """The script and the style sheet of all pages."""
        for name in ASSETS:
            put(folder / "assets" / name, self._text(name))

    def write(self, page: Page, folder: Path) -> None:
        """Render a page into its file."""
        fault("report.page")
        own = "'self' file:"
        policy = POLICY.format(script=own, style=own, images=own)
        text = self._base(page.title, page.name, {page.name: self._body(page)}, policy)
        put(folder / f"{page.name}.html", text)

    def one_file(self, pages: list[Page]) -> str:
        """All pages in one, of which a reader sees one at a time; script and style are allowed by their digests."""
        style, script = (_source(self._text(name)) for name in ASSETS)
        bodies = {self.links.id(page.name, ""): self._body(page) for page in pages}
        return self._base(pages[0].title, "", bodies, POLICY.format(script=script, style=style, images="data:"))

    def _text(self, name: str) -> str:
        return self.environment.get_template(name).render()

    def _body(self, page: Page) -> TemplateModule:
        """What stands between the head and the foot of a page."""
        about = self.site.publication.introduction if page.name == "index" else None
        links = {
            "introduction": about.html(self.links, page.name) if about else "",
            "to": partial(self.links.page, page.name), "ident": partial(self.links.id, page.name),
            "file": partial(self.links.file, page.name),
        }  # fmt: skip
        return self.environment.get_template(page.template).make_module({"page": page, **links, **page.shown})

    def _base(self, title: str, here: str, bodies: Mapping[str, TemplateModule], policy: str) -> str:
        """A whole file, of the page `here` or, if that is "", of all."""
        links = {"to": partial(self.links.page, here), "file": partial(self.links.file, here)}
        return self.environment.get_template("base.html").render(
            title=title, publication=self.site.publication, here=here, bodies=bodies, policy=policy, **links
        )


def _source(text: str) -> str:
    """A source of a Content-Security-Policy: the inline element of exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
