"""Draw the README's picture from the runs of the quick suite: `python tools/readme_picture.py runs`."""

import sys
from pathlib import Path

from genbench import plots, style
from genbench.records import load_records

COUNT = 36

if __name__ == "__main__":
    style.save(plots.sample_grids(load_records([Path(sys.argv[1])]), COUNT), Path("docs/samples.png"), dpi=90)
