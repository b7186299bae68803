"""One file for a paper's supplement: the pages, and every run folder without its weights."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from genbench.records.checkpoint import MANIFEST
from genbench.records.record import Record
from genbench.records.run_folder import own_files
from genbench.report.again import command, versions
from genbench.report.build import build, sorted_records
from genbench.report.place import place_of
from genbench.report.publication import Publication
from genbench.report.site import Absent, slugs_of
from genbench.support.errors import Busy
from genbench.support.paths import check_links
from genbench.support.store import atomic_file, put
from genbench.support.text import printable
from genbench.support.version import __version__

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in the archive, so that the same runs give the same bytes."""
README = """# {title}

{head}`report/index.html` opens in a browser, from disk: tables, plots, samples, settings, the protocol of every number.
`runs/` has a folder per run: its record, samples and learning curve, and the source of a model that does not ship
with genbench, but not its weights. `again.txt` has the command that trains each of them again, to be run here.

    pip install genbench=={version}
    genbench verify runs                  # every record and file against its digest
    genbench table runs                   # the tables, from the records
    genbench report runs -o pages         # the pages, from the records

Rows called `real`, and pictures that show test or training images, hold images of {datasets}: they are under the
licence of these data.
"""


def build_archive(records: list[Record], out: Path, absent: Absent, publication: Publication) -> Path:
    """The archive `out`, or `out`.zip. Raises BadInput if anything else is already there."""
    out = place_of(out, ".zip")
    records = sorted_records(records)
    with tempfile.TemporaryDirectory() as temporary, atomic_file(out) as unfinished:
        folder = Path(temporary)
        build(records, folder / "report", absent, publication)
        put(folder / "README.md", _readme(records, publication))
        put(folder / "again.txt", _commands(records))
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, file in [*_files_of(folder), *_runs(records)]:
                _add(archive, f"{out.stem}/{name}", file)
    return out


def _add(archive: zipfile.ZipFile, name: str, file: Path) -> None:
    """Add a file. Raises Busy if it has just gone: a job has begun again."""
    info = zipfile.ZipInfo(printable(name), EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    try:
        with file.open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
            shutil.copyfileobj(source, target)
    except FileNotFoundError as error:
        raise Busy(f"{file}: gone: its job has begun again", "archive the runs when it has ended") from error


def _readme(records: list[Record], publication: Publication) -> str:
    datasets = ", ".join(sorted({record.dataset.name for record in records}))
    told = [", ".join(publication.authors), *publication.links]
    head = "".join(f"{printable(line)}\n\n" for line in told if line)
    title = printable(publication.title or f"Runs of genbench {__version__}")
    return README.format(title=title, head=head, version=__version__, datasets=datasets)


def _commands(records: list[Record]) -> str:
    """How to train each run again, from the folder of the archive."""
    found = []
    for slug, record in zip(slugs_of(records).values(), records):
        if record.command:
            text = f"# {slug}: {versions(record)}\n{command(record, f'runs/{slug}')} --out again\n"
            found.append(printable(text, "\n"))
    return "\n".join(found)


def _files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield file.relative_to(folder).as_posix(), file


def _runs(records: list[Record]) -> Iterator[tuple[str, Path]]:
    """The files of every run but weights, which a manifest lists, below a name that no other run has."""
    for slug, record in zip(slugs_of(records).values(), records):
        if record.folder is None or record.under_way:
            continue
        check_links(record.folder)
        own = (file for file in own_files(record.folder) if file.name != MANIFEST)
        for file in [record.folder / "record.json", *own]:
            yield f"runs/{slug}/{file.relative_to(record.folder).as_posix()}", file
