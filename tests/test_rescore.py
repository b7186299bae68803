"""`genbench evaluate RUN`: a finished run in the features of further extractors, without training."""

import json
import subprocess
import sys

import pytest
from finished import SMALL, numbers, record_of, run_of, times

EXTRACTOR = """
import numpy as np
from genbench import hookimpl
from genbench.evaluate.extractor import Extractor

@hookimpl
def register_extractors(register):
    register("corners", lambda: Extractor("corners", corners, 4, 0, {"layer": "pixels"}))

def corners(levels):
    return levels.flatten(1)[:, [18, 21, 42, 45]].float() / 255, None
"""


# finished runs


def score(genbench, run, *extractors):
    words = [word for name in extractors for word in ("--extractor", name)]
    return genbench("evaluate", run, "--device", "cpu", *words)


def test_a_finished_run_in_another_extractors_features(genbench, runs, quick_classifier):
    """Without its model's plugin, which is gone, and with the reference rows."""
    before = {label: record_of(run_of(runs, label)) for label in ("mine", "real", "copies", "noise")}
    stamps = {file: time for file, time in times(runs).items() if file.name != "record.json"}
    result = score(genbench, run_of(runs, "mine"), "local-classifier")
    assert result.code == 0 and "local-classifier" in result.out, result.err
    for label, old in before.items():
        new = record_of(run_of(runs, label))
        assert numbers(new) == numbers(old) and len(numbers(new, "local-classifier")) == len(numbers(old))
        assert new["cost"]["train"] == old["cost"]["train"] and new["attempts"] == old["attempts"]
        assert all(m in new["measurements"] for m in old["measurements"])
    assert stamps == {file: time for file, time in times(runs).items() if file.name != "record.json"}
    assert genbench("verify", runs).code == 0
    assert len(genbench("table", runs, "--format", "json").json["tables"]) == 1
    first = record_of(run_of(runs, "mine"))
    assert score(genbench, run_of(runs, "mine"), "local-classifier").code == 0
    assert record_of(run_of(runs, "mine"))["measurements"] == first["measurements"]


def test_a_plugins_extractor_scores_all_runs_of_a_folder_like_a_run_with_it(genbench, runs, gaussian_plugin, tmp_path):
    (tmp_path / "corners.py").write_text(EXTRACTOR)
    result = genbench("evaluate", "runs", "--extractor", "corners", "--plugin", "corners.py")
    assert result.code == 0, result.err
    command = ["run", "--plugin", gaussian_plugin, "--plugin", "corners.py", "-m", "mine", *SMALL, "--out", "fresh"]
    assert genbench(*command, "--extractor", "corners").code == 0
    for label in ("mine", "real", "copies", "noise"):
        found, wanted = (numbers(record_of(run_of(tmp_path / place, label)), "corners") for place in ("runs", "fresh"))
        assert found == wanted and len(wanted) >= 5, label


def test_a_run_with_the_same_arguments_neither_loses_nor_repeats(genbench, runs, gaussian_plugin, quick_classifier):
    run = ["run", "--plugin", gaussian_plugin, "-m", "mine", *SMALL]
    assert score(genbench, run_of(runs, "mine"), "local-classifier").code == 0
    before = {file: file.read_bytes() for file in runs.glob("*/record.json")}
    assert genbench(*run).code == 0
    assert genbench(*run, "--extractor", "local-classifier").code == 0
    assert genbench(*run, "--extractor", "local-classifier", "--extractor", "digits-classifier-v1").code == 0
    assert before == {file: file.read_bytes() for file in runs.glob("*/record.json")}


@pytest.mark.slow
def test_a_run_with_a_further_extractor_measures_only_that(genbench, runs, gaussian_plugin, tmp_path, finished_runs):
    (tmp_path / "corners.py").write_text(EXTRACTOR)
    run = ["run", "--plugin", gaussian_plugin, "--plugin", "corners.py", "-m", "mine", *SMALL]
    old = record_of(run_of(runs, "mine"))
    assert genbench(*run, "--extractor", "corners").code == 0
    new = record_of(run_of(runs, "mine"))
    assert all(m in new["measurements"] for m in old["measurements"]) and numbers(new, "corners")
    assert set(new["extractors"]) == set(new["rulers"]) == {"corners", "digits-classifier-v1"}
    assert new["rulers"]["digits-classifier-v1"] == old["rulers"]["digits-classifier-v1"]
    assert new["cost"]["train"] == old["cost"]["train"]
    assert new["cost"]["evaluate"]["seconds"] > old["cost"]["evaluate"]["seconds"]
    assert genbench(*run[:-6], "--likelihood-images", "50", "--samples", "100", "--device", "cpu").code == 0
    changed = record_of(run_of(runs, "mine"))
    assert numbers(changed, "corners") == numbers(new, "corners")
    assert set(changed["extractors"]) == {"digits-classifier-v1"}
    bits = [m for m in changed["measurements"] if m["metric"] == "bits_per_dim_test"]
    assert [m["count"] for m in bits] == [50]
    fewer = [word if word != "100" else "90" for word in run]
    assert genbench(*fewer).code == 0
    assert not numbers(record_of(run_of(runs, "mine")), "corners")


def test_a_foreign_row_joins_the_columns_of_its_neighbours(genbench, runs, samples, tmp_path, quick_classifier):
    assert score(genbench, run_of(runs, "mine"), "local-classifier").code == 0
    assert genbench("evaluate", samples, "-d", "digits", "--device", "cpu").code == 0
    theirs, mine = (record_of(run_of(runs, label)) for label in ("theirs", "mine"))
    for name in ("local-classifier", "digits-classifier-v1"):
        assert numbers(theirs, name) == numbers(mine, name) != {}
    (tmp_path / "corners.py").write_text(EXTRACTOR)
    words = ["evaluate", samples, "-d", "digits", "--plugin", "corners.py", "--extractor", "corners"]
    assert genbench(*words).code == 0
    new = record_of(run_of(runs, "theirs"))
    assert all(m in new["measurements"] for m in theirs["measurements"]) and numbers(new, "corners")
    assert numbers(record_of(run_of(runs, "real")), "corners")


def damage(run, kind):
    samples, about = run / "samples.npy", run / "samples.json"
    if kind == "missing":
        samples.unlink()
    elif kind == "missing facts":
        about.unlink()
    elif kind == "changed":
        content = bytearray(samples.read_bytes())
        content[-7] ^= 1
        samples.write_bytes(content)
    elif kind == "of another key":
        about.write_text(about.read_text().replace('"key": "', '"key": "0'))
    else:
        (run / "job.json").write_text("{}")


@pytest.mark.parametrize("kind", ["missing", "missing facts", "changed", "of another key", "job"])
def test_samples_that_are_gone_or_changed_are_not_scored(genbench, runs, kind, quick_classifier):
    run = run_of(runs, "mine")
    damage(run, kind)
    before = (run / "record.json").read_bytes()
    result = score(genbench, run, "local-classifier")
    assert result.code == 3 and run.name in result.err and "error[corrupt-data]" in result.err, result.err
    assert before == (run / "record.json").read_bytes()


BAD_RUNS = {
    "no extractor": ([], 2, "--extractor NAME"),
    "unknown extractor": (["--extractor", "local-clasifier"], 2, "did you mean 'local-classifier'"),
    "a name": (["--extractor", "local-classifier", "--name", "x"], 2, "--name"),
    "a dataset": (["--extractor", "local-classifier", "-d", "digits"], 2, "-d"),
    "a number of samples": (["--extractor", "local-classifier", "--samples", "10"], 2, "--samples"),
    "weights not there": (["--extractor", "inception-v3-compat", "--offline", "--weights", "nowhere"], 4, "weights"),
}


@pytest.mark.parametrize("name", BAD_RUNS)
def test_bad_words_for_a_finished_run(genbench, runs, name):
    arguments, code, text = BAD_RUNS[name]
    before = {file: file.read_bytes() for file in runs.rglob("*.*") if file.is_file()}
    result = genbench("evaluate", run_of(runs, "mine"), *arguments)
    assert result.code == code and text in result.err and result.out == "", result.err
    assert before == {file: file.read_bytes() for file in runs.rglob("*.*") if file.is_file()}


def test_a_run_that_failed_has_nothing_to_score(genbench, runs):
    file = run_of(runs, "mine") / "record.json"
    plain = json.loads(file.read_text())
    del plain["digest"]
    file.write_text(json.dumps({**plain, "status": "failed", "error": {"type": "E", "message": "m"}}))
    result = score(genbench, file.parent, "digits-classifier-v1")
    assert result.code == 2 and "failed" in result.err


def test_a_run_on_other_data_of_that_name_is_not_scored(genbench, runs):
    digest = record_of(run_of(runs, "noise"))["dataset"]["digest"]
    for file, seal in ((run_of(runs, "mine") / "record.json", "digest"), (run_of(runs, "mine") / "job.json", "seal")):
        plain = json.loads(file.read_text().replace(digest, "0" * 64))
        del plain[seal]
        file.write_text(json.dumps(plain))
    result = score(genbench, run_of(runs, "mine"), "digits-classifier-v1")
    assert result.code == 2 and "digest" in result.err


def test_a_busy_run_is_not_scored(genbench, runs):
    run = run_of(runs, "mine")
    script = "import time, pathlib\nfrom genbench.support.lock import locked\n"
    script += f"with locked(pathlib.Path({str(run)!r})):\n"
    holder = subprocess.Popen([sys.executable, "-c", script + " print('held', flush=True); time.sleep(60)"], stdout=-1)
    try:
        assert holder.stdout.readline().strip() == b"held"
        assert score(genbench, run, "digits-classifier-v1").code == 5
    finally:
        holder.kill()
        holder.wait()
