"""Every bad input gets its exit code, one error that says what, where and how to fix it, and leaves nothing."""

import builtins
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bad_input import CASES
from bad_input.case import Case

from genbench.support.processes import start_forkserver
from genbench.support.text import printable

JSON_COMMANDS = {"run", "plan", "compare", "models", "datasets", "extractors", "plugins", "check-plugin", "doctor",
                 "evaluate", "verify", "calibrate"}  # fmt: skip


@pytest.fixture
def given(tmp_path, prepared, monkeypatch):
    """What makes a case's files, in a folder with a cache of its own, and denies what it denies."""
    monkeypatch.chdir(tmp_path)

    def give(case: Case) -> None:
        shutil.copytree(prepared / "cache", tmp_path / "cache")
        if case.runs:
            shutil.copytree(prepared / "runs", tmp_path / "runs")
        (digits,) = (tmp_path / "cache" / "datasets").iterdir()
        (tmp_path / "cache" / "datasets" / "digits").symlink_to(digits.name)
        monkeypatch.setattr("genbench.commands.run.run_session", lambda *_: pytest.fail("it ran"))
        start_forkserver()  # whose own folder goes when these tests end
        (tmp_path / "tmp").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
        monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("GENBENCH_DATA", str(prepared / "data"))
        case.make(tmp_path)
        for name, value in case.variables.items():
            monkeypatch.setenv(name, value)

    return give


@contextmanager
def denied(name: str) -> Iterator[None]:
    """Within the block no file whose name ends so can be opened."""
    real = builtins.open

    def opened(file, *arguments, **words):
        if not isinstance(file, int) and os.fspath(file).endswith(name):
            raise PermissionError(13, "Permission denied", os.fspath(file))
        return real(file, *arguments, **words)

    with pytest.MonkeyPatch.context() as patch:
        if name:
            patch.setattr(builtins, "open", opened)
            patch.setattr(io, "open", opened)
        yield


def tree(folder: Path) -> dict[str, tuple]:
    """All that is below a folder, with what would change if it were written.

    A lock says only who had it, and a mark when arrays were last found whole: copying them has changed their inodes.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if "__pycache__" not in path.parts and path.name not in (".lock", "checked.json"):
            about = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path)] = (about.st_mode, about.st_mtime_ns if path.is_file() else 0, content)
    return found


def check(case: Case, code: int, told: str) -> None:
    assert code == case.code, told
    for text in case.wanted():
        assert text in told, f"{text!r} is not in: {told}"
    for word in ("Traceback", "allow_pickle", "weights_only", "please report"):
        assert word not in told


@pytest.mark.parametrize("name", CASES)
def test_bad_input_gets_one_error_and_leaves_nothing(genbench, given, tmp_path, name):
    case = CASES[name]
    given(case)
    before = tree(tmp_path)
    with denied(case.denied):
        result = genbench(*case.arguments)
    check(case, result.code, result.err)
    assert case.shown in result.out and bool(case.shown) == bool(result.out)
    assert result.err.count("genbench: error[") == 1, result.out + result.err
    assert "  hint: " in result.err and result.err.replace("\n", "").isprintable()
    if case.made:
        shutil.rmtree(tmp_path / case.made)
    assert tree(tmp_path) == before


AS_JSON = [
    name for name, case in CASES.items() if case.arguments[0] in JSON_COMMANDS and "--" not in case.arguments[-1]
]


@pytest.mark.parametrize("name", AS_JSON[::9])
def test_the_error_is_one_object_where_json_is_asked_for(genbench, given, name):
    case = CASES[name]
    given(case)
    with denied(case.denied):
        result = genbench(case.arguments[0], "--json", *case.arguments[1:])
    error = result.json["error"]
    check(case, result.code, printable(f"{error['message']} {error['hint']}"))
    assert result.err == "" and error["code"] and error["hint"] and error["exit"] == case.code


def test_several_problems_are_objects_too(genbench, given):
    given(CASES["suites: several mistakes"])
    error = genbench(*CASES["suites: several mistakes"].arguments, "--json").json["error"]
    assert len(error["problems"]) == 3 and all(problem["message"] and problem["hint"] for problem in error["problems"])


def test_one_wrong_key_is_one_mistake(genbench, given):
    """Not also the lack of the key that was meant, nor the lack of a whole model."""
    for name in ("a table under a wrong name", "a wrong name for the name", "a wrong key of a budget",
                 "a wrong value in every model", "a budget in minutes"):  # fmt: skip
        case = CASES[f"suites: {name}"]
        case.make(Path.cwd())
        error = genbench(*case.arguments, "--json").json["error"]
        assert "problems" not in error and ";" not in error["message"], error


def test_there_are_enough():
    assert len(CASES) >= 120


def test_the_table_is_one_object_and_its_error_another(genbench, given):
    case = CASES["runs: two broken records"]
    given(case)
    result = genbench(*case.arguments, "--format", "json")
    (table,) = result.json["tables"]
    assert {row["name"] for row in table["rows"]} == {"noise"}
    error = json.loads(result.err)["error"]
    check(case, result.code, error["message"])
    assert error["exit"] == 3 and len(error["problems"]) == 2


# What no table can say


def test_a_reader_that_goes_away_is_no_error(genbench, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        result = genbench("datasets")
    assert result.code == 141 and result.err == ""


def test_a_terminal_without_unicode_is_no_error(genbench, monkeypatch):
    out = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(out, encoding="ascii"))
    assert genbench("datasets").code == 0 and b"calibration" in out.getvalue()


NOT_APPLICABLE = {
    "3: no dataset": "mnist5k is the default",
    "11: a batch larger than the dataset": "batches go on with the next epoch",
    "14, 36: contradicting devices": "--jobs is a number for each device of --device; there is no --gpus",
    "16-18, 21, 23, 24: metrics and their options": "the protocol decides on metrics, splits, subsets and k",
    "20: fewer samples than features": "no number, and its reason in the table: tests/test_fidelity.py",
    "28, 31, 32: names of runs, --resume": "a run is found by the digest of its job; the same command goes on",
    "30, 101, C7: too little space": "writing stops whole: tests/test_store.py",
    "37: --keep-last": "there are always two checkpoints",
    "52, 93: ranges of floats": "a dataset's images are uint8; samples of floats declare --range",
    "59, 60, 97, 99: addresses and archives": "genbench fetches and unpacks none; of weights the SHA-256 is known",
    "64, 96: splits and lists of labels": "a split is a folder or a share, a label a folder or an array",
    "67, 149: versions": "a datasets file has none; the schema of records is the first",
    "76, 77: images of several sizes or colours": "they are resized and converted, as datasets.toml says",
    "82: turned images": "turned as they say, and counted: tests/test_data.py",
    "92: a folder that changes": "it is another dataset, or stops the job: tests/test_data.py, executors/child.py",
    "106: a slow import": "a warning: tests/test_plugins.py",
    "118-143: what a model does": "a failed record and a row: tests/test_cli.py, test_deaths.py, test_conformance.py",
    "145: a missing record": "a run that goes on, and a note beside tables: tests/test_report.py",
    "151-155, 162: locks and clocks": "tests/test_store.py",
    "164: missing samples": "`genbench verify`: tests/test_verify.py",
    "171-175: checkpoints of another job": "the folder's name is the job's digest; `sample` compares the weights",
    "178: what an extractor returns": "a failed record: tests/test_extractors.py",
    "181: ranking what cannot be compared": "separate tables: tests/test_tables.py",
}
"""Rows of the list of bad inputs that the tables leave out, and why."""
