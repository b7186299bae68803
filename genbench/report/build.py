"""One folder of pages: built in a temporary folder beside, then swapped in."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genbench import __version__, plots
from genbench.errors import BadInput
from genbench.faults import fault
from genbench.formats import FORMATS, render
from genbench.layout import Layout, Table
from genbench.limits import TEST
from genbench.published import published_tables
from genbench.record_files import curve_of
from genbench.records import Record
from genbench.report.facts import environments, failures, headlines, number_protocols, run_rows, settings
from genbench.report.pages import MANY, Pages
from genbench.report.place import MARKER, check_place
from genbench.sheets import first_samples, sheet
from genbench.store import atomic_folder, put
from genbench.style import INK, svg
from genbench.tables import make_layouts

PAPER_INK, NIGHT_INK = INK, "#e4e4ea"
SUFFIXES = {"markdown": "md", "latex": "tex", "csv": "csv", "json": "json", "text": "txt"}
LAYOUTS: dict[Layout, str] = {
    "quality": "Quality", "likelihood": "Likelihoods", "cost": "Cost", "full": "Everything",
}  # fmt: skip


@dataclass(frozen=True)
class Absent:
    """What a report is without: why some records cannot be read, and the names of runs that have none yet."""

    corrupt: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)


def build(records: list[Record], out: Path, absent: Absent) -> Path:
    """See `genbench.report.build_report`."""
    if not records:
        raise BadInput("no records to report on", "give a folder of run folders")
    out = out.absolute()
    check_place(out)
    with atomic_folder(out, flushed=False) as folder:
        _write(sorted(records, key=lambda record: record.job.id), folder, absent)
        files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        marker = {"genbench": __version__, "files": files}
        put(folder / MARKER, json.dumps(marker, indent=1) + "\n")
        fault("report.built")
    return out / "index.html"


def _write(records: list[Record], folder: Path, absent: Absent) -> None:
    slugs = slugs_of(records)
    tables: dict[str, list[Table]] = dict(make_layouts(records, LAYOUTS).items())
    tables["likelihood"] = [table for table in tables["likelihood"] if _has_likelihood(table)]
    published = published_tables("full", None)
    for name, some in {**tables, "published": published}.items():
        if some:
            _write_tables(some, name, folder / "tables")
    looks = plots.palette(tables["full"])
    protocols = number_protocols(tables["full"])
    pages = Pages(slugs=slugs, looks=looks, protocols=protocols, suffixes=list(SUFFIXES.values()))
    pictured = {record.place for table in tables["full"] for row in table.rows for record in row.records[:MANY]}
    sheets = {
        record.place: written
        for record in records
        if record.place in pictured and (written := _write_sheet(record, slugs[record.place], folder))
    }
    measured = {layout: [table for table in some if not table.published] for layout, some in tables.items()}
    context: dict[str, Any] = {
        "records": records, "tables": measured, "layouts": LAYOUTS, "published": published, "sheets": sheets,
        "headlines": headlines(tables["full"]), "plots": list(_write_plots(tables["full"], looks, folder / "plots")),
        "failures": failures(records), "environments": environments(records), "settings": settings(records),
        "absent": absent,
    }  # fmt: skip
    pages.write("index.html", folder / "index.html", "", **context)
    for record in records:
        page = folder / "runs" / f"{slugs[record.place]}.html"
        curve = curve_of(record) if record.place in pictured else []
        own = {"record": record, "sheet": sheets.get(record.place), "curve": curve, "facts": run_rows(record)}
        pages.write("run.html", page, "../", **own)


def _has_likelihood(table: Table) -> bool:
    return any(row.cells[TEST].value is not None for row in table.rows)


def slugs_of(records: list[Record]) -> dict[str, str]:
    """A safe, unique file name for each record, by its place."""
    slugs: dict[str, str] = {}
    taken: Counter[str] = Counter()
    for record in records:
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", record.job.id).strip("-")[:80] or "run"
        slugs[record.place] = f"{slug}~{taken[slug]}" if taken[slug] else slug
        taken[slug] += 1
    return slugs


def _write_tables(tables: list[Table], name: str, folder: Path) -> None:
    for format in FORMATS:
        put(folder / f"{name}.{SUFFIXES[format]}", render(tables, format))


def _write_sheet(record: Record, slug: str, folder: Path) -> str | None:
    """The run's sample sheet as PNG, which pages enlarge; its path in the report, None without samples."""
    from PIL import Image

    images = first_samples(record)
    if images is None:
        return None
    grey = images.shape[1] < 3
    page = sheet(images)
    picture = io.BytesIO()
    Image.fromarray(page[..., 0] if grey else page).save(picture, format="PNG", compress_level=1)
    put(folder / "samples" / f"{slug}.png", picture.getvalue())
    return f"samples/{slug}.png"


def _write_plots(tables: list[Table], looks: plots.Looks, folder: Path) -> Iterator[dict[str, str]]:
    """Each plot as SVG, once with dark ink and once with light ink for dark pages; its heading and description."""
    for name, (title, draw) in plots.ALL.items():
        figure = draw(tables, looks)
        if not figure.axes or not any(axes.has_data() for axes in figure.axes):
            continue
        text = svg(figure)
        put(folder / f"{name}.svg", text)
        put(folder / f"{name}-dark.svg", text.replace(PAPER_INK, NIGHT_INK))
        text = str(figure.get_label())
        yield {"name": name, "title": title, "alt": text, "text": text.partition(" Not drawn:")[0]}
