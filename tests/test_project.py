"""The house: documents that say what is so, and layers that import only what they may."""

import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from genbench import __version__, hookspecs
from genbench.running.defaults import load_plugins
from genbench.testing import check_model

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_example_of_the_readme_is_the_shipped_baseline_and_works(tmp_path):
    (example,) = [text for text in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "register_models" in text]
    assert example == (ROOT / "plugins" / "genbench_gaussian" / "__init__.py").read_text()
    (tmp_path / "mine.py").write_text(example.replace('"gaussian"', '"mine"'))
    check_model(load_plugins([str(tmp_path / "mine.py")]).model("mine")[0])


def test_the_two_commands_are_there():
    assert re.search(r"<!-- command: run -->\n```bash\n.*genbench run\n```", README)
    assert re.search(r"<!-- command: test -->\n```bash\n.*pytest\n```", README)


def test_what_is_not_python_is_packaged_too():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["genbench"]
    package = ROOT / "genbench"
    files = {f for f in package.rglob("*") if f.is_file() and f.suffix != ".py" and "__pycache__" not in f.parts}
    assert files == {found for pattern in patterns for found in package.glob(pattern)}


def test_the_citation_is_of_this_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.parametrize("name", [n for n, hook in inspect.getmembers(hookspecs) if hasattr(hook, "genbench_spec")])
def test_every_hook_names_its_caller(name):
    assert "Called by `genbench." in inspect.getdoc(getattr(hookspecs, name))


@pytest.mark.parametrize(
    "module",
    ["records.record_files", "tables.build", "tables.formats", "plots", "report", "planning.config", "cli.main"],
)
def test_the_reading_half_imports_no_torch(module):
    script = f"import genbench.{module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], env={**os.environ, "MPLBACKEND": "Agg"}).returncode == 0
