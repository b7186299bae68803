"""One folder of pages, or one file of them: built in a temporary folder, then put in its place."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from genbench.records.record import Record
from genbench.report.links import FileLinks, FolderLinks
from genbench.report.pages import Pages
from genbench.report.place import MARKER, check_place, place_of
from genbench.report.publication import Publication
from genbench.report.site import Absent, Page, Site
from genbench.support.errors import BadInput
from genbench.support.faults import fault
from genbench.support.paths import check_writable
from genbench.support.store import atomic_folder, put, write_text
from genbench.support.version import __version__

MOST_DRAWN_TWICE = 1000
"""Runs of a report whose figures are there as PNG, too, which takes as long again."""
NO_JEKYLL = ".nojekyll"
"""Keeps GitHub Pages from turning the tables' Markdown into pages, so that links to it lead nowhere."""
MOST_RUNS = 100
"""Runs that have their own page in a single file."""


def build(records: list[Record], out: Path, absent: Absent, publication: Publication) -> Path:
    """See `genbench.report.build_report`."""
    out = out.absolute()
    check_place(out)
    check_writable("--out", out)
    with atomic_folder(out, flushed=False) as folder:
        formats = ("svg", "png") if len(records) <= MOST_DRAWN_TWICE else ("svg",)
        site = Site(sorted_records(records), folder, absent, publication, formats)
        pages = Pages(site, FolderLinks())
        put(folder / NO_JEKYLL, "")
        pages.write_assets(folder)
        for page in site.pages():
            pages.write(page, folder)
        files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        marker = {"genbench": __version__, "files": files}
        put(folder / MARKER, json.dumps(marker, indent=1) + "\n")
        fault("report.built")
    return out / "index.html"


def build_single(records: list[Record], out: Path, absent: Absent, publication: Publication) -> Path:
    """The same pages as one file; those of single runs only if there are at most MOST_RUNS of them."""
    out = place_of(out, ".html")
    with tempfile.TemporaryDirectory() as temporary:
        site = Site(sorted_records(records), Path(temporary), absent, publication)
        pages = list(_within(site))
        text = Pages(site, FileLinks(Path(temporary), {page.name for page in pages})).one_file(pages)
        fault("report.built")
        write_text(out, text)
    return out


def _within(site: Site) -> list[Page]:
    many = len(site.records) > MOST_RUNS
    return [page for page in site.pages() if not (many and page.template == "run.html")]


def sorted_records(records: list[Record]) -> list[Record]:
    """The records by job. Raises BadInput if there are none."""
    if not records:
        raise BadInput("no records to report on", "give a folder of run folders")
    return sorted(records, key=lambda record: record.job.id)
