"""What a report consists of: its pages in order, and the tables, figures and pictures that lie beside them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from genbench import plots
from genbench.plots.panels import of_label, palette
from genbench.plots.style import Look
from genbench.records.record import Record
from genbench.records.record_files import begun_again, curve_of
from genbench.report.again import codes, origin
from genbench.report.facts import Protocol, abilities, environments, failures, number_protocols, run_rows, settings
from genbench.report.figures import Figure, write_figure
from genbench.report.pictures import SIDE_BY_SIDE, Picture, write_pictures
from genbench.report.publication import Publication
from genbench.report.rulers import Tried, rulers_in
from genbench.support.errors import CorruptData
from genbench.support.store import put
from genbench.support.text import impersonal
from genbench.tables.build import make_layouts
from genbench.tables.format import Format
from genbench.tables.formats import formats
from genbench.tables.groups import is_reference
from genbench.tables.headlines import Headline, Standing, headlines
from genbench.tables.layout import Row, Table
from genbench.tables.layouts import FULL, layouts
from genbench.tables.published import published_tables
from genbench.tables.ruler_files import csv_of, json_of

MANY = 10
"""Runs of a row that are linked one by one, with samples and curves; all are in the list of runs."""
MOST_FIGURED = 30
"""Models that have their own figures."""
RULER_FILES = {"tables/ruler.csv": csv_of, "tables/ruler.json": json_of}
"""The files of the rulers' rungs."""


@dataclass(frozen=True)
class Absent:
    """What a report is without: why some records cannot be read, the names of runs that tell nothing, other files."""

    corrupt: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    spoilt: list[CorruptData] = field(default_factory=list)

    @contextmanager
    def spared(self, records: Iterable[Record]) -> Iterator[None]:
        """Skip pictures and curves of these runs that cannot be read; if a job has begun again, that is no damage."""
        try:
            yield
        except CorruptData as fault:
            if any(begun_again(record) for record in records if not record.under_way):
                return
            if fault.message not in [known.message for known in self.spoilt]:
                self.spoilt.append(fault)


@dataclass(frozen=True)
class Page:
    """One page: its path without suffix, its template, and what that shows."""

    name: str
    template: str
    title: str
    shown: dict[str, Any] = field(default_factory=dict)


@dataclass
class Site:
    """All that pages share; making it writes tables, figures and pictures into `folder`."""

    records: list[Record]
    folder: Path
    absent: Absent
    publication: Publication
    figure_formats: tuple[str, ...] = ("svg",)

    def __post_init__(self) -> None:
        if self.publication.introduction:
            self.publication.introduction.write_pictures(self.folder)
        self.slugs = slugs_of(self.records)
        self.dataset_pages = pages_of("datasets", (record.dataset.name for record in self.records))
        labels = sorted({record.job.label for record in self.models})
        self.model_pages = pages_of("models", labels)
        self.tables: dict[str, list[Table]] = {
            name: [table for table in tables if not table.published and layouts()[name].is_shown(table)]
            for name, tables in make_layouts(self.records, layouts()).items()
        }
        self.published = published_tables(layouts()[FULL].published, None)
        self.headlines = headlines(self.full)
        self.rulers: list[Tried] = rulers_in(self.full)
        self.ruler_anchors = {tried.table.digest: tried.anchor for tried in reversed(self.rulers)}
        self.looks: dict[str, Look] = palette(self.full)
        self.protocols: dict[str, Protocol] = number_protocols(self.full)
        shown = [record for table in self.full for row in table.rows for record in row.records[:MANY]]
        self.pictured = {record.place for record in shown if not record.under_way}
        self.write_tables()
        self.pictures: dict[str, list[Picture]] = {}
        for record in self.records:
            if record.place in self.pictured:
                larger = "png" in self.figure_formats
                with self.absent.spared([record]):
                    for picture in write_pictures(record, self.slugs[record.place], self.folder, larger):
                        self.pictures.setdefault(record.place, []).append(picture)
        self.sheets = {place: some[0] for place, some in self.pictures.items() if some[0].kind == "samples"}

    @property
    def full(self) -> list[Table]:
        """The tables with all that was measured."""
        return self.tables[FULL]

    @property
    def models(self) -> list[Record]:
        return [record for record in self.records if not is_reference(record)]

    def of_label(self, label: str) -> list[Record]:
        return [record for record in self.models if record.job.label == label]

    @property
    def spoilt(self) -> list[str]:
        """Why pictures and curves of runs are not on the pages, so far."""
        reasons = [fault.message for fault in self.absent.spoilt]
        for folder in {record.folder.parent for record in self.records if record.folder}:
            reasons = [text.replace(f"{folder}/", "") for text in reasons]
        return [impersonal(text) for text in reasons]

    @cached_property
    def failures(self) -> list[Record]:
        return failures(self.records)

    @cached_property
    def under_way(self) -> list[Record]:
        return [record for record in self.records if record.under_way]

    def write_tables(self) -> None:
        """Every layout in every format, of all datasets together; of each in some, if there are several."""
        for layout, tables in self.tables.items():
            _write_tables(tables, layout, self.folder)
            if len(self.dataset_pages) > 1:
                for name, page in self.dataset_pages.items():
                    _write_tables(_of_dataset(tables, name), f"{Path(page).name}-{layout}", self.folder, several=True)
        _write_tables(self.published, "published", self.folder)
        rulers = [(tried.table.dataset, tried.table.digest, tried.ruler) for tried in self.rulers]
        for file, write in RULER_FILES.items() if rulers else ():
            put(self.folder / file, write(rulers))

    def table_files(self, dataset: str, layout: str) -> list[str]:
        """The paths of a dataset's table."""
        several = len(self.dataset_pages) > 1
        slug = f"{Path(self.dataset_pages[dataset]).name}-" if several else ""
        return files_of(f"{slug}{layout}", several)

    def pages(self) -> Iterator[Page]:
        """Every page, the overview first; those of runs last."""
        datasets = [self.dataset(name) for name in self.dataset_pages]
        title = self.publication.title or f"genbench: {', '.join(self.dataset_pages)}"
        names, able = abilities(self.records)
        origins = {label: origin(self.of_label(label)) for label in able}
        shown = {"datasets": datasets, "abilities": names, "able": able, "origins": origins}
        yield Page("index", "overview.html", title, shown)
        for dataset in datasets:
            yield Page(self.dataset_pages[dataset["name"]], "dataset.html", dataset["name"], dataset)
        for i, (label, page) in enumerate(self.model_pages.items()):
            yield Page(page, "model.html", label, self.model(label, able[label], figured=i < MOST_FIGURED))
        yield Page("ruler", "ruler.html", "The ruler", self.ruler())
        yield Page("runs", "runs.html", "Runs")
        yield Page("protocols", "protocols.html", "Protocols", {"environments": environments(self.records)})
        yield Page("published", "published.html", "Published numbers")
        for record in self.records:
            given = ", conditional" if record.job.conditional else ""
            title = f"{record.job.label} on {record.dataset.name}{given}, seed {record.job.seed}"
            curve = curve_of(record) if record.place in self.pictured else []
            shown = {"record": record, "curve": curve, "facts": run_rows(record), "figures": self.so_far(record)}
            yield Page(f"runs/{self.slugs[record.place]}", "run.html", title, shown)

    def so_far(self, record: Record) -> dict[str, Figure]:
        """The learning curves of a run that is under way."""
        if not record.under_way:
            return {}
        own = [
            replace(table, rows=tuple(replace(row, records=(record,)) for row in table.rows if _has(row, record)))
            for table in self.full
        ]
        return self.figures(own, ["model"], f"run-{self.slugs[record.place]}")

    def dataset(self, name: str) -> dict[str, Any]:
        """What the page of a dataset shows, and in short the overview."""
        tables = {layout: _of_dataset(some, name) for layout, some in self.tables.items()}
        page = Path(self.dataset_pages[name]).name
        own = [record for record in self.records if record.dataset.name == name]
        sections = {layout: entry.title for layout, entry in layouts().items() if layout != FULL}
        figures = self.figures(tables[FULL], sections, page)
        return {
            "name": name, "tables": tables, "figures": figures, "leading": _leading(tables[FULL], figures),
            "stamp": own[0].dataset, "sections": sections, "everything": layouts()[FULL].title, "records": own,
            "headlines": [head for head in self.headlines if head.panel.table.dataset == name],
            "failures": failures(own), "side_by_side": SIDE_BY_SIDE,
            "published": published_tables(layouts()[FULL].published, {name}),
            "warned": [record for record in own if record.warnings],
            "copying": [row for table in tables[FULL] for row in table.rows if row.copying],
        }  # fmt: skip

    def model(self, label: str, able: dict[str, str], figured: bool) -> dict[str, Any]:
        """What the page of a model shows."""
        tables = of_label(self.full, label)
        own, found = self.of_label(label), []
        with self.absent.spared(own):
            found = codes(own)
        page = f"model-{Path(self.model_pages[label]).name}"
        figures = self.figures(tables, ["model"], page) if figured else {}
        return {
            "label": label, "records": own, "origin": origin(own), "codes": found, "able": able, "figured": figured,
            "figures": figures, "settings": settings(own), "failures": failures(own),
            "standings": _standings(self.headlines, label),
            "warned": [record for record in own if record.warnings],
            "copying": [row for table in tables for row in table.rows if row.copying],
            "rows": [row for table in tables for row in table.rows if row.kind == "model"],
        }  # fmt: skip

    def ruler(self) -> dict[str, Any]:
        """What the page of the ruler shows: each ruler with its figure."""
        figures = {
            tried.anchor: figure
            for tried in self.rulers
            for figure in self.figures([tried.table], ["ruler"], tried.anchor).values()
        }
        return {"rulers": self.rulers, "figures": figures, "files": list(RULER_FILES)}

    def figures(self, tables: list[Table], sections: Iterable[str], slug: str) -> dict[str, Figure]:
        """The figures of some sections by name, as files; without those whose curves cannot be read."""
        found = {}
        for name in [name for name, plot in plots.ALL.items() if plot.section in sections]:
            records = (record for table in tables for row in table.rows for record in row.records)
            with self.absent.spared(records):
                if figure := write_figure(name, tables, self.looks, slug, self.folder, self.figure_formats):
                    found[name] = figure
        return found


def _has(row: Row, record: Record) -> bool:
    return any(each.place == record.place for each in row.records)


def _standings(found: Iterable[Headline], label: str) -> list[Standing]:
    return [s for head in found for s in head.rows if s.row.kind == "model" and s.row.label == label]


def _leading(tables: list[Table], figures: dict[str, Figure]) -> list[Figure]:
    """The two figures that say what quality costs: over sampling, and over training in what its budget leaves open."""
    first = plots.of_training_cost(tables)
    first = first if first in figures else "fid-training-seconds"
    return [figures[name] for name in (first, "fid-sampling") if name in figures]


def _of_dataset(tables: Iterable[Table], name: str) -> list[Table]:
    return [table for table in tables if table.dataset == name]


def _write_tables(tables: list[Table], name: str, folder: Path, several: bool = False) -> None:
    """Write the tables in every format, or in those that each of several datasets has; nothing if there are none."""
    for file, format in _formats(name, several).items() if tables else ():
        put(folder / file, format.write(tables))


def files_of(name: str, several: bool = False) -> list[str]:
    """The paths of a table in every format, or in those that each of several datasets has."""
    return list(_formats(name, several))


def _formats(name: str, several: bool) -> dict[str, Format]:
    """The formats of a table by the file's path."""
    own = [format for format in formats().values() if format.per_dataset or not several]
    return {f"tables/{name}{format.suffix}": format for format in own}


def slugs_of(records: list[Record]) -> dict[str, str]:
    """A safe, unique file name for each record, by its place."""
    slugs = unique_slugs(record.job.id for record in records)
    return {record.place: slug for record, slug in zip(records, slugs)}


def pages_of(kind: str, names: Iterable[str]) -> dict[str, str]:
    """The path without suffix of the page of each name, once each, in order."""
    names = list(dict.fromkeys(names))
    return {name: f"{kind}/{slug}" for name, slug in zip(names, unique_slugs(names))}


def unique_slugs(names: Iterable[str]) -> list[str]:
    """A safe file name for each name; equal ones, also on disks without capitals, are numbered."""
    slugs: list[str] = []
    taken: Counter[str] = Counter()
    for name in names:
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:80] or "run"
        key = slug.lower()
        slugs.append(f"{slug}~{taken[key]}" if taken[key] else slug)
        taken[key] += 1
    return slugs
