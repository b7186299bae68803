"""Runs of every release, as it left them, read by this one."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from finished import numbers, record_of, run_of, times
from test_rescore import EXTRACTOR

from genbench import __version__, plots

KEPT = Path(__file__).parent / "data" / "runs"
VERSIONS = sorted(folder.name for folder in KEPT.iterdir())
TRACES = re.compile(rb"/(?:home|root|Users|work|mnt)/|/tmp/(?!genbench/)")
"""Of the machine that made them."""


@pytest.fixture(params=VERSIONS)
def old(request, tmp_path):
    return shutil.copytree(KEPT / request.param, tmp_path / "runs")


def test_this_version_has_its_runs_too_and_all_are_small_and_tell_of_no_machine():
    assert "v" + ".".join(__version__.split(".")[:2]) in VERSIONS
    for version in VERSIONS:
        files = [file for file in (KEPT / version).rglob("*") if file.is_file()]
        assert sum(file.stat().st_size for file in files) < 200_000
        assert not [file for file in files if TRACES.search(file.read_bytes())]


def test_they_are_verified_shown_and_compared_as_they_are(genbench, old, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "ALL", {"learning-curves": plots.ALL["learning-curves"]})  # of what no table reads
    before, model = times(old), run_of(old, "gaussian")
    verdicts = genbench("verify", old, "--json")
    assert verdicts.code == 0 and [row["state"] for row in verdicts.json if row["kind"] == "run"] == ["ok"] * 3
    (table,) = genbench("table", old, "--layout", "full", "--format", "json").json["tables"]
    assert {row["name"] for row in table["rows"]} == {"gaussian", "real", "noise"}
    shown = {cell["value"] for row in table["rows"] for cell in row["cells"].values()}
    assert shown.issuperset(m["value"] for m in record_of(model)["measurements"] if m["value"] is not None)
    assert genbench("report", old, "-o", "pages").code == 0
    page = (tmp_path / "pages" / "index.html").read_text()
    assert (
        "digits-classifier-v1" in page
        and model.name in page
        and (tmp_path / "pages" / "plots" / "model-gaussian-learning-curves.svg").exists()
    )
    assert "job.model" in {row["key"] for row in genbench("compare", model, run_of(old, "real"), "--json").json}
    assert times(old) == before


def test_more_is_drawn_from_them_and_they_are_scored_again(genbench, old, tmp_path, digits):
    model = run_of(old, "gaussian")
    first = record_of(model)
    assert genbench("sample", model, "-n", "4", "-o", "more.npy").code == 0
    assert np.load(tmp_path / "more.npy").shape == (4, 1, 8, 8)
    (tmp_path / "corners.py").write_text(EXTRACTOR)
    result = genbench("evaluate", old, "--extractor", "corners", "--plugin", "corners.py")
    assert result.code == 0, result.err
    again = record_of(model)
    assert numbers(again) == numbers(first) and numbers(again, "corners")
    assert len(again["curve"]) == len(first["curve"]) and genbench("verify", old).code == 0


def test_a_run_of_today_stands_beside_them_with_what_sets_them_apart(genbench, old):
    words = ("--budget", "20steps", "--samples", "100", "--likelihood-images", "40", "--curve", "2", "--device", "cpu")
    done = genbench("run", "-m", "gaussian", "-d", "digits", "--seeds", "1,", *words, "--out", old)
    assert done.code == 0, done.err
    tables = genbench("table", old, "--layout", "full", "--format", "json").json["tables"]
    rows = {tuple(row["seeds"]): table for table in tables for row in table["rows"] if row["name"] == "gaussian"}
    assert rows.keys() == {(0, 1)} or "versions.metrics" in rows[0,]["differs"]
    assert genbench("verify", old).code == 0
