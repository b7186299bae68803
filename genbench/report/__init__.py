"""Records -> pages that open from disk, with every table, plot and sample sheet beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from genbench.records.record import Record
    from genbench.report.publication import Publication
    from genbench.support.errors import CorruptData, GenbenchError

Form = Literal["folder", "single_file", "archive"]


def build_report(
    records: Iterable[Record],
    out: Path,
    corrupt: Mapping[Path, GenbenchError] | None = None,
    unfinished: Iterable[Path] = (),
    spoilt: list[CorruptData] | None = None,
    form: Form = "folder",
    publication: Publication | None = None,
) -> Path:
    """Write the pages of the records into the folder `out` and return its index.html.

    As a `single_file` they are one HTML file, `out` or `out`.html, that needs no other; an `archive`, `out` or
    `out`.zip, has them beside the run folders, without weights. A `publication` heads them with its title.

    They say which files are `corrupt` and which folders `unfinished`, whose records are missing from them. Pictures and
    curves of a run that cannot be read are left out, which the pages say, and added to `spoilt`. The report is built
    beside `out` and swapped in, so that no viewer sees half of it; an earlier report is replaced. Raises BadInput if
    `out` holds anything but a report, or if there is no record.
    """
    from genbench.report.archive import build_archive
    from genbench.report.build import build, build_single
    from genbench.report.publication import Publication
    from genbench.report.site import Absent
    from genbench.support.text import impersonal

    reasons = [
        impersonal(fault.message.replace(str(file), f"{file.parent.name}/{file.name}"))
        for file, fault in (corrupt or {}).items()
    ]
    records = list(records)
    rows = {record.folder for record in records}
    silent = [folder.name for folder in unfinished if folder not in rows]
    absent = Absent(reasons, silent, [] if spoilt is None else spoilt)
    writers = {"folder": build, "single_file": build_single, "archive": build_archive}
    return writers[form](records, out, absent, publication or Publication())
