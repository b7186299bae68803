"""`genbench new-plugin` writes what ruff has nothing against; `check-plugin` outlives whatever a plugin does."""

import re
import subprocess
import sys
import tomllib

import pytest

from genbench import __version__

RULES = "E,F,W,I,UP,B,C4,SIM,RET,PTH,RUF,ANN,D100,D101,D102,D103"
FILES = {"pyproject.toml", "README.md"}
SICK = """
import os
import time

import torch

from genbench import Model, hookimpl


@hookimpl
def register_models(register):
    for model in (Hangs, Ends, Raises, Crashes, Well):
        register(model)


class Well(Model):
    name = "well"

    def __init__(self, data, config):
        super().__init__(data, config)
        self.mean = torch.nn.Parameter(torch.zeros(data.shape))

    def loss(self, phase, batch):
        print("a plugin's own words")
        return (batch.images - self.mean).square().mean()

    def sample(self, n, labels=None):
        return self.mean + 0.1 * torch.randn(n, *self.data.shape)


class Hangs(Well):
    name = "hangs"

    def sample(self, n, labels=None):
        while True:
            time.sleep(0.1)  # hangs


class Ends(Well):
    name = "ends"

    def loss(self, phase, batch):  # ends
        os._exit(0)


class Raises(Well):
    name = "raises"

    def sample(self, n, labels=None):
        raise KeyboardInterrupt("not the user's")  # raises


class Crashes(Well):
    name = "crashes"

    def loss(self, phase, batch):
        os.abort()  # crashes
"""


ALL = "(Hangs, Ends, Raises, Crashes, Well)"


def line_of(name):
    (line,) = [number for number, text in enumerate(SICK.splitlines(), 1) if text.endswith(f"# {name}")]
    return line


def checked(genbench, tmp_path, models, told):
    """Check these models of SICK: of each, one promise is broken, for the reason and at the line that are told."""
    (tmp_path / "sick.py").write_text(SICK.replace(ALL, models))
    result = genbench("check-plugin", "sick.py", "--hang-timeout", "20")
    assert result.code == 1 and "own words" not in result.out
    report = r"^(\w+) \(sick.py\), checked on (.*?\n)(?=^\w+ \(sick.py\)|\Z)"
    reports = dict(re.findall(report, result.out, re.M | re.S))
    for name, fault in told.items():
        assert reports[name].count("Broken: ") == 1 and "1 broken" in reports[name] and fault in reports[name], name
        assert f"look at  sick.py:{line_of(name)}, in " in reports[name] and f"# {name}\n" in reports[name]
    return reports


def test_a_check_outlives_a_process_that_dies(genbench, tmp_path):
    reports = checked(genbench, tmp_path, "(Crashes, Well)", {"crashes": "its process was ended by SIGABRT"})
    assert "Broken" not in reports["well"] and re.search(r"^\d+ kept, \d+ not for this model$", reports["well"], re.M)


@pytest.mark.slow
def test_a_check_outlives_a_plugin_that_hangs_or_leaves(genbench, tmp_path):
    told = {"hangs": "no progress for 20 seconds", "ends": "its process exited with code 0"}
    assert set(checked(genbench, tmp_path, "(Hangs, Ends, Well)", told)) == {"hangs", "ends", "well"}


def test_the_report_as_json_has_all_of_it(genbench, tmp_path):
    (tmp_path / "mine.py").write_text(SICK.replace(ALL, "(Raises,)"))
    result = genbench("check-plugin", "mine.py", "--json")
    assert result.code == 1
    by_state = {row["state"]: row for row in result.json}
    assert set(by_state) == {"kept", "broken", "not for this model", "not checked"}
    assert by_state["broken"]["place"] == {
        "file": str((tmp_path / "mine.py").resolve()), "line": line_of("raises"), "within": "Raises.sample()"
    }  # fmt: skip
    assert [row["passed"] for row in by_state.values()].count(True) == 2
    assert by_state["broken"]["cases"] == ["1x8x8", "3x16x16"] and "KeyboardInterrupt" in by_state["broken"]["detail"]


@pytest.mark.parametrize(
    ("name", "module", "kind"),
    [("ripple", "genbench_ripple", "Ripple"), ("My-model_2", "genbench_my_model_2", "MyModel2"),
     ("m" * 40, f"genbench_{'m' * 40}", f"M{'m' * 39}")],
)  # fmt: skip
def test_a_new_plugin_is_clean_and_names_itself(genbench, tmp_path, name, module, kind):
    result = genbench("new-plugin", name, "-o", "made/here")
    folder = tmp_path / "made" / "here"
    assert result.code == 0 and "cd made/here" in result.out and f"genbench run -m {name}" in result.out
    assert {file.name for file in folder.iterdir()} == FILES | {f"{module}.py", f"test_{module}.py"}
    package = tomllib.loads((folder / "pyproject.toml").read_text())
    assert package["project"]["entry-points"]["genbench"] == {name: module}
    assert package["project"]["dependencies"] == [f"genbench>={__version__}"]
    code = (folder / f"{module}.py").read_text()
    assert f"class {kind}(Model):" in code and f'name = "{name}"' in code
    assert not any("$" in file.read_text() for file in folder.iterdir())
    for task in ("check", "--select", RULES), ("format", "--check"):
        command = [sys.executable, "-m", "ruff", *task, "--no-cache", "."]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_an_empty_folder_is_taken(genbench, tmp_path):
    (tmp_path / "genbench-ripple").mkdir()
    assert genbench("new-plugin", "ripple").code == 0
    assert (tmp_path / "genbench-ripple" / "genbench_ripple.py").is_file()
    assert genbench("new-plugin", "ripple").code == 2
