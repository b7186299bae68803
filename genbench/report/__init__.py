"""Records -> pages that open from disk, with every table, plot and sample sheet beside them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genbench.records import Record


def build_report(records: Iterable[Record], out: Path) -> Path:
    """Write the pages of the records into the folder `out` and return its index.html.

    It is built beside and swapped in, so that no viewer sees half a report; a report that stood there is replaced.
    Raises BadInput where `out` holds anything but a report, or no record is given.
    """
    from genbench.report.build import build

    return build(list(records), out)
