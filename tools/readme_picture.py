"""Draw the README's picture from the runs of the quick suite: `python tools/readme_picture.py runs`."""

import sys
from pathlib import Path

from genbench import plots
from genbench.plots import style
from genbench.record_files import load_records
from genbench.tables.build import make_tables

COUNT = 36

if __name__ == "__main__":
    tables = make_tables(load_records([Path(sys.argv[1])]), "full")
    style.save(plots.sample_grids(tables, COUNT), Path("docs/samples.png"), dpi=90)
