"""Draw the first samples of every row side by side, as the README and the documentation show them.

python tools/sample_picture.py runs                                            # docs/samples.png
python tools/sample_picture.py runs-a runs-b -m ddpm -m gan -o docs/more.png   # only these rows
"""

import argparse
from pathlib import Path

from genbench import plots
from genbench.plots import style
from genbench.records.record_files import load_records
from genbench.tables.build import make_tables

COUNT = 36

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("-m", dest="rows", action="append", help="a row to show; default: all")
    parser.add_argument("-o", dest="out", type=Path, default=Path("docs/samples.png"))
    options = parser.parse_args()
    records = [r for r in load_records(options.runs) if not options.rows or r.job.label in options.rows]
    style.save(plots.sample_grids(make_tables(records, "full"), COUNT), options.out, dpi=90)
