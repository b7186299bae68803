"""A run from a folder with modules of its own: jobs import the installed package, and leave only runs and caches."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from genbench.support import store

pytestmark = pytest.mark.slow
TRAP = """
from pathlib import Path
Path(__file__).with_suffix(".imported").touch()
raise ImportError("not the installed genbench")
"""
SCRIPT = "from genbench.cli.main import main\n\nif __name__ == '__main__':\n    main()\n"
SMALL = ["-d", "digits", "--budget", "5steps", "--samples", "100", "--likelihood-images", "10", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, gaussian_plugin, session_cache):
    """A folder with a `genbench` of its own, after a run of a model in a file from there."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("genbench/__init__.py", "genbench/child.py", "genbench_gaussian.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(TRAP)
    script = tmp_path_factory.mktemp("bin") / "command.py"  # like the installed command, not of the folder
    script.write_text(SCRIPT)
    (folder / "mine.py").write_text(gaussian_plugin.read_text())
    root = Path(__file__).parent.parent
    environment = {
        **os.environ, "TORCH_HOME": str(folder / "torch"), "GENBENCH_CACHE": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "plugins")]),
    }  # fmt: skip
    command = [sys.executable, str(script), "run", "--plugin", "mine.py", "-m", "mine", *SMALL, "--json"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_folder_called_genbench_does_not_hide_the_package(folder):
    records = [json.loads(file.read_text()) for file in folder.glob("runs/*/record.json")]
    assert {record["job"]["label"] for record in records} == {"mine", "real", "copies", "noise"}
    assert {record["status"] for record in records} == {"complete"}
    assert not list(folder.rglob("*.imported")), "a module of the working folder was imported"


def test_a_run_writes_only_its_runs_and_its_cache(folder):
    """In particular torch-fidelity's cache, whose keys are names, is never made."""
    names = {path.name for path in folder.iterdir()} - {"__pycache__"}
    assert names == {"genbench", "genbench_gaussian.py", "mine.py", "runs", "cache"}


READERS = {
    ".json": store.read_json,
    ".npy": store.read_array,
    ".safetensors": store.read_tensors,
    ".jsonl": lambda file: [json.loads(line) for line in file.read_text().splitlines()],
    ".py": lambda file: file.parent.name == "source" and ast.parse(file.read_text()),
}
"""What reads each kind of file; a model's own source is kept to be read, and never run."""


def test_runs_and_caches_hold_json_arrays_and_tensors_alone(folder):
    """Nothing that has to be unpickled."""
    files = [file for part in ("runs", "cache") for file in (folder / part).rglob("*") if file.is_file()]
    assert {file.suffix for file in files} >= set(READERS)
    for file in files:
        if file.name != ".lock":
            READERS[file.suffix](file)
    assert {np.load(file, allow_pickle=False).dtype.kind for file in files if file.suffix == ".npy"} <= {"u", "i"}
