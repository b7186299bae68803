"""The plan of the house: no circle of imports of any kind, one way between rooms, files and functions of a size."""

import ast
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ["genbench", *sorted(path.name for path in (ROOT / "plugins").glob("genbench_*"))]
MOST_AT_THE_TOP, MOST_LINES, MOST_LINES_OF_A_FUNCTION = 21, 400, 60


def modules(root):
    """The files of the core and of the shipped plugins, by the name of their module."""
    files = [*root.glob("genbench/**/*.py"), *root.glob("plugins/genbench_*/**/*.py")]
    found = {}
    for file in files:
        parts = file.relative_to(root).with_suffix("").parts
        parts = parts[1:] if parts[0] == "plugins" else parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(root):
    """module -> imported module -> line, of every import: in functions and for types alone too."""
    found = modules(root)

    def home(name):
        while name and name not in found:
            name = name.rpartition(".")[0]
        return name

    arrows = defaultdict(dict)
    for module, file in found.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for target in filter(None, map(home, names)):
                if target != module:
                    arrows[module].setdefault(target, node.lineno)
    return arrows


def circles(root):
    """Each arrow that closes a circle, in words: `a:12 imports b, which leads back by c`."""
    arrows, state, told = imports(root), {}, []

    def visit(module, way):
        state[module] = "open"
        for target, line in sorted(arrows.get(module, {}).items()):
            if state.get(target) == "open":
                back = " -> ".join([*way[way.index(target) :], module, target])
                told.append(f"{module}:{line} imports {target}, which closes the circle {back}")
            elif target not in state:
                visit(target, [*way, target])
        state[module] = "done"

    for module in sorted(arrows):
        if module not in state:
            visit(module, [module])
    return told


@pytest.fixture
def copy(tmp_path):
    """A copy of the source, to plant what is forbidden."""
    for name in ("genbench", "plugins"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def plant(copy, module, line):
    file = modules(copy)[module]
    file.write_text(file.read_text() + f"\n\n{line}\n")


def test_no_module_stands_in_a_circle():
    assert circles(ROOT) == []


@pytest.mark.parametrize(
    "line",
    [
        "from genbench.running.run import Run",
        "def late():\n    from genbench.running.run import Run",
        "if TYPE_CHECKING:\n    from genbench.running.run import Run",
    ],
    ids=["at import", "in a function", "for types"],
)
def test_an_arrow_that_closes_a_circle_is_named(copy, line):
    plant(copy, "genbench.metering.meter", line)
    assert any("genbench.running.run" in told and "genbench.metering.meter" in told for told in circles(copy))


def lint_imports(folder):
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    places = {"PYTHONPATH": f"{folder}:{folder / 'plugins'}", "PATH": "/usr/bin:/bin"}
    return subprocess.run([*command, "--no-cache"], cwd=folder, env=places, capture_output=True, text=True)


def test_the_contracts_are_kept_and_have_no_exceptions():
    assert "ignore_imports" not in (ROOT / "pyproject.toml").read_text()
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("genbench.support.names", "from genbench.records.job import Job", "One way"),
        ("genbench.tables.groups", "def late():\n    from genbench.training.loop import Trainer", "reading half"),
        ("genbench.running.defaults", "import genbench_vae", "names no plugin"),
    ],
)
def test_an_arrow_against_the_street_breaks_its_contract(copy, module, line, contract):
    plant(copy, module, line)
    done = lint_imports(copy)
    broken = [text for text in done.stdout.splitlines() if "BROKEN" in text]
    assert done.returncode and any(contract in text for text in broken), done.stdout


def test_what_lies_at_the_top_is_what_an_author_may_import():
    assert len(list((ROOT / "genbench").glob("*.py"))) <= MOST_AT_THE_TOP


@pytest.mark.parametrize("package", PACKAGES)
def test_files_and_functions_are_of_readable_size(package):
    large = []
    for module, file in modules(ROOT).items():
        if module.split(".")[0] != package:
            continue
        text = file.read_text(encoding="utf-8")
        if text.count("\n") > MOST_LINES:
            large.append(module)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or 0) - node.lineno + 1
                large += [f"{module}:{node.lineno} {node.name}"] * (size > MOST_LINES_OF_A_FUNCTION)
    assert large == []
