"""The benchmark of the metrics runs, and both sides give equal values."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "metrics.py"


def run(*options):
    command = [sys.executable, "-W", "ignore", str(SCRIPT), "--repeats", "1", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_table_has_every_comparison_and_equal_values():
    table = run("--images", "300", "--dim", "16")
    assert [what for what in ("FID", "KID", "precision and recall", "inception score", "all metrics") if what in table]
    differences = [float(value) for value in re.findall(r"values differ by (\S+)", table)]
    assert len(differences) == 4 and max(differences) < 1e-6
    assert float(re.search(r"features differ by (\S+)", table)[1]) < 1e-5


@pytest.mark.slow
def test_metrics_cost_at_most_half_of_torch_fidelitys():
    """By processor time, which other work on the machine disturbs less than the clock on the wall."""
    table = run("--images", "10000", "--dim", "64")
    line = next(line for line in table.splitlines() if line.startswith("all metrics"))
    assert float(line.split()[-1]) < 0.5
