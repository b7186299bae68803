"""A plugin that measures: on every row, also of runs that are done, once, and anew where its source has changed."""

import json

import pytest

PLUGIN = """
from genbench import Measurement, hookimpl

@hookimpl
def evaluate(samples):
    settings = {{"metric": "mean level", "version": {version}}}
    mean = float(samples.images.mean()) + {version}
    return [Measurement(metric="mean_level", value=mean, count=len(samples), better="lower", settings=settings)]
"""
RUN = ["run", "-m", "gaussian", "-d", "digits", "--budget", "20steps", "--samples", "100", "--likelihood-images", "20"]


def records(folder):
    files = sorted(folder.glob("*/record.json"))
    return {plain["job"]["label"]: plain for plain in (json.loads(file.read_text()) for file in files)}


def levels(folder):
    return {
        label: [m["value"] for m in record["measurements"] if m["metric"] == "mean_level"]
        for label, record in records(folder).items()
    }


@pytest.mark.slow
def test_a_plugin_measures_runs_that_are_done_without_training_them(genbench, tmp_path):
    out, plugin = tmp_path / "runs", tmp_path / "level.py"
    command = [*RUN, "--curve", "2", "--out", out]
    assert genbench(*command).code == 0
    before = records(out)

    plugin.write_text(PLUGIN.format(version=0))
    measured = genbench(*command, "--plugin", plugin)
    assert measured.code == 0, measured.err
    after = records(out)
    for label, record in after.items():
        added = [m for m in record["measurements"] if m["metric"] == "mean_level"]
        assert len(added) == 1
        assert [m for m in record["measurements"] if m not in added] == before[label]["measurements"]
        assert record["cost"]["train"] == before[label]["cost"]["train"]
    assert levels(out)["noise"][0] > levels(out)["real"][0] > 0
    assert all(any(m["metric"] == "mean_level" for m in point["measurements"]) for point in after["gaussian"]["curve"])

    stamps = {file: file.stat().st_mtime_ns for file in out.glob("*/record.json")}
    assert genbench(*command, "--plugin", plugin).code == 0 and genbench(*command).code == 0
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps

    first = levels(out)
    plugin.write_text(PLUGIN.format(version=1))
    assert genbench(*command, "--plugin", plugin).code == 0
    assert levels(out) == {label: [value + 1] for label, (value,) in first.items()}
    assert "mean_level" in genbench("table", out, "--layout", "full", "--format", "csv").out
    assert genbench("verify", out).code == 0
