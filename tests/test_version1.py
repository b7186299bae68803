"""Plugins written against version 1 of the API run unedited."""

from pathlib import Path

import pytest
from finished import record_of, run_of

from genbench import hookspecs

PLUGIN = Path(__file__).with_name("version1_plugin.py")


@pytest.mark.parametrize("words", [(), ("--conditional",)])
def test_a_plugin_of_version_1_runs_as_it_is(genbench, tmp_path, words):
    few = ["--budget", "3steps", "--samples", "70", "--likelihood-images", "4", "--device", "cpu"]
    result = genbench("run", "--plugin", PLUGIN, "-m", "old", "-d", "digits", *few, *words)
    assert result.code == 0, result.err
    run = run_of(tmp_path / "runs", "old")
    record = record_of(run)
    metrics = {m["metric"] for m in record["measurements"]}
    assert {"mean_level", "fid_test", "bits_per_dim_test"} <= metrics and (run / "seen.txt").read_text() == "complete"
    assert record["cost"]["sample"]["nfe"] == (1 if words else 2)


def test_version_1_is_not_refused():
    assert hookspecs.OLDEST_API == 1


HISTOGRAM = Path(__file__).parent / "third_party" / "genbench-histogram" / "genbench_histogram"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugin", "model"), [(Path(__file__).with_name("version1_phases.py"), "pair"), (HISTOGRAM, "histogram")]
)
def test_other_plugins_of_version_1_pass_the_kit_and_run(genbench, tmp_path, plugin, model):
    checked = genbench("check-plugin", plugin)
    assert checked.code == 0, checked.out
    few = ["--budget", "4steps", "--samples", "70", "--likelihood-images", "4", "--device", "cpu"]
    result = genbench("run", "--plugin", plugin, "-m", model, "-d", "digits", *few, "--conditional")
    assert result.code == 0, result.err
    assert record_of(run_of(tmp_path / "runs", model))["status"] == "complete"
