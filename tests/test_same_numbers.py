"""The tool that compares the numbers of two checkouts: equal rows are equal, and whatever differs is named."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from finished import record_of, run_of

ROOT = Path(__file__).parent.parent
FILE = ROOT / "tools" / "same_numbers.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("same_numbers", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["same_numbers"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["same_numbers"]


@pytest.fixture
def told(tool, finished_runs, runs, capsys):
    """What is said of the finished runs and of a changed copy of them."""

    def compare(change):
        folder = run_of(runs, "mine")
        record = record_of(folder)
        change(folder, record)
        (folder / "record.json").write_text(json.dumps(record))
        differing = tool.report(tool.rows(finished_runs), tool.rows(runs))
        return differing, capsys.readouterr().out.splitlines()

    return compare


def test_rows_are_equal_whatever_their_ids_and_environment(told):
    def rename(folder, record):
        record["job"]["id"] = "mine-digits-seed0-elsewhere"
        record["environment"]["python"] = "4.0"
        record["protocols"] = {f"new{name}": settings for name, settings in record["protocols"].items()}
        for each in record["measurements"]:
            each["protocol"] = f"new{each['protocol']}"

    rows = ["copies on digits, seed 0", "mine on digits, seed 0", "noise on digits, seed 0", "real on digits, seed 0"]
    assert told(rename) == (0, [f"equal    {row}" for row in rows])


def test_a_sample_that_differs_in_one_level_is_named(told):
    def brighten(folder, record):
        images = np.load(folder / "samples.npy")
        images[3, 0, 0, 0] ^= 1
        np.save(folder / "samples.npy", images)

    differing, lines = told(brighten)
    assert differing == 1 and lines[1:3] == ["differs  mine on digits, seed 0", "           samples.npy: other bytes"]


@pytest.mark.parametrize("field", ["value", "stderr", "interval"])
def test_a_number_that_differs_is_named(told, field):
    def move(folder, record):
        (each,) = [each for each in record["measurements"] if each["metric"] == "fid_test"]
        each[field] = [0.0, 1.0] if field == "interval" else 7.0

    differing, lines = told(move)
    assert differing == 1 and f"fid_test (digits-classifier-v1), {field}: " in lines[2] and len(lines) == 5


def test_another_setting_of_a_measurement_is_named(told):
    def reseed(folder, record):
        (each,) = [each for each in record["measurements"] if each["metric"] == "fid_test"]
        record["protocols"][each["protocol"]]["seed"] = 7

    differing, lines = told(reseed)
    assert differing == 1 and lines[2].strip() == "fid_test (digits-classifier-v1), settings.seed: 2020 -> 7"


def test_a_measurement_or_a_row_that_is_gone_is_named(told):
    def drop(folder, record):
        record["measurements"] = [each for each in record["measurements"] if each["metric"] != "fid_test"]
        shutil.rmtree(run_of(folder.parent, "noise"))

    differing, lines = told(drop)
    assert differing == 2 and "           fid_test (digits-classifier-v1): only before" in lines
    assert lines[lines.index("differs  noise on digits, seed 0") + 1] == "           only before"


def test_what_is_no_checkout_is_refused(tmp_path):
    done = subprocess.run([sys.executable, FILE, tmp_path, ROOT], capture_output=True, text=True)
    assert done.returncode == 1 and f"{tmp_path}: not a checkout of genbench" in done.stderr


@pytest.mark.slow
def test_a_planted_difference_between_two_checkouts_is_found(tmp_path):
    other = tmp_path / "other"
    for name in ("genbench", "plugins"):
        shutil.copytree(ROOT / name, other / name, ignore=shutil.ignore_patterns("__pycache__"))

    file = other / "plugins" / "genbench_gaussian" / "__init__.py"
    text = file.read_text()
    file.write_text(text.replace("torch.randn(n,", "1.01 * torch.randn(n,", 1))
    assert file.read_text() != text
    command = [sys.executable, FILE, ROOT, other, "-m", "gaussian", "--budget", "3steps"]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    equal = ("copies on digits", "noise on digits", "real on digits")
    said = [line for line in lines if line.startswith(("equal", "differs"))]
    assert done.returncode == 1
    assert sorted(said) == ["differs  gaussian on digits, seed 0", *(f"equal    {row}, seed 0" for row in equal)]
    assert "           samples.npy: other bytes" in lines
