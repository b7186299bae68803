"""What the code may not do: read pickles, run text, unpack archives, start shells, trust markup, write past store.py.

ruff's rules (pyproject.toml) cover most; each is shown to fire. What no rule covers is looked up in the syntax tree.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [*ROOT.glob("genbench/**/*.py"), *ROOT.glob("plugins/**/*.py")]
SNIPPETS = {
    "import pickle": "TID251", "from pickle import loads": "TID251", "import marshal": "TID251",
    "import shelve": "TID251", "import dill": "TID251", "import joblib": "TID251", "import cloudpickle": "TID251",
    "import tarfile": "TID251", "eval('1')": "S307", "exec('1')": "S102",
    "import torch\ntorch.load('x')": "TID251", "import torch\ntorch.load('x', weights_only=False)": "TID251",
    "import torch\ntorch.save({}, 'x')": "TID251", "import torch\ntorch.jit.load('x')": "TID251",
    "import pandas\npandas.read_pickle('x')": "TID251", "import shutil\nshutil.unpack_archive('x')": "TID251",
    "import yaml\nyaml.load('x')": "S506",
    "import subprocess\nsubprocess.run('x', shell=True)": "S602", "import os\nos.system('x')": "S605",
    "import jinja2\njinja2.Environment()": "S701", "import jinja2\njinja2.Template('x')": "TID251",
    "import sys\nfrom markupsafe import Markup\nMarkup(sys.argv[0])": "S704",
}  # fmt: skip


@pytest.fixture(scope="module")
def fired(tmp_path_factory):
    """The rules that ruff, with the project's settings, reports for each snippet."""
    folder = tmp_path_factory.mktemp("snippets")
    for number, text in enumerate(SNIPPETS):
        (folder / f"{number}.py").write_text(text + "\n")
    command = [sys.executable, "-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    done = subprocess.run([*command, "--output-format", "json", str(folder)], capture_output=True, text=True)
    rules: dict[str, set[str]] = {text: set() for text in SNIPPETS}
    for problem in json.loads(done.stdout):
        rules[list(SNIPPETS)[int(Path(problem["filename"]).stem)]].add(problem["code"])
    return rules


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_each_rule_fires(fired, snippet):
    assert SNIPPETS[snippet] in fired[snippet]


# What ruff has no rule for

WRITERS = {
    "write_text", "write_bytes", "savefig", "savetxt", "tofile", "to_csv", "to_parquet",
    "open_memmap", "save_file", "savez", "savez_compressed",
}  # fmt: skip
WITHIN = {"atomic_file", "atomic_folder"}
ALLOWED = {
    ("support/store.py", ""): "the module that writes",
    ("support/lock.py", "locked"): "who holds the lock, for whom it keeps out",
    ("report/archive.py", "_add"): "into the archive that atomic_file gave build_archive",
    ("data/preparation.py", "_write_split"): "into the folder that atomic_folder gave _make",
    ("report/build.py", ""): "into the folder that atomic_folder gave build",
    ("report/pages.py", "write"): "into the folder that atomic_folder gave build",
    ("report/pictures.py", "_write"): "into memory",
    ("evaluate/controls.py", "compress"): "into memory",
    ("devices.py", "reset_peak_memory"): "a switch of the kernel's, below /proc",
    ("cli/main.py", "report_bug"): "the traceback of a bug of ours, in the folder of temporary files",
}


def faults_of(source: str, name: str = "some.py") -> list[str]:
    return [text for text, _ in faults(ast.parse(source), name)]


def faults(tree: ast.AST, name: str, function: str = "", atomic: bool = False) -> Iterator[tuple[str, int]]:
    """What a module does that it may not, with the line."""
    for node in ast.iter_child_nodes(tree):
        inside = function
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = node.name
        within = atomic or (isinstance(node, ast.With) and any(opens_atomically(item) for item in node.items))
        if isinstance(node, ast.Call):
            yield from ((text, node.lineno) for text in faults_of_call(node, name, function, within))
        yield from faults(node, name, inside, within)


def opens_atomically(item: ast.withitem) -> bool:
    call = item.context_expr
    return isinstance(call, ast.Call) and called(call) in WITHIN


def called(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def faults_of_call(call: ast.Call, name: str, function: str, atomic: bool) -> Iterator[str]:
    words = {word.arg: word.value for word in call.keywords}
    constant = {key: value.value for key, value in words.items() if isinstance(value, ast.Constant)}
    if isinstance(call.func, ast.Name) and call.func.id in ("compile", "eval", "exec", "__import__"):
        yield f"{call.func.id} of text"
    if "allow_pickle" in words and constant.get("allow_pickle") is not False:
        yield "allow_pickle that is not False"
    if "weights_only" in words and constant.get("weights_only") is not True:
        yield "weights_only that is not True"
    if called(call) == "load" and ast.unparse(call.func) in ("np.load", "numpy.load") and "allow_pickle" not in words:
        yield "np.load without allow_pickle=False"
    if called(call) in ("extract", "extractall", "unpack_archive"):
        yield "an archive is unpacked"
    allowed = atomic or (name, function) in ALLOWED or (name, "") in ALLOWED
    if writes(call) and not allowed:
        yield f"{ast.unparse(call.func)} writes past store.py"


def writes(call: ast.Call) -> bool:
    name = called(call)
    if ast.unparse(call.func).startswith("store."):
        return False
    if name == "open":
        modes = [a.value for a in [*call.args, *(w.value for w in call.keywords)] if isinstance(a, ast.Constant)]
        return any(isinstance(mode, str) and set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes)
    if name == "save":
        return ast.unparse(call.func) not in ("checkpoint.save", "self.save")
    if name == "dump":
        return ast.unparse(call.func) in ("json.dump", "tomli_w.dump")
    return name in WRITERS


def test_the_product_does_nothing_of_it():
    found = []
    for file in SOURCES:
        name = file.relative_to(ROOT / "genbench").as_posix() if file.is_relative_to(ROOT / "genbench") else str(file)
        found += [f"{file}:{line}: {text}" for text, line in faults(ast.parse(file.read_text()), name)]
    assert found == []


@pytest.mark.parametrize(
    ("snippet", "fault"),
    [
        ("compile('1', 'x', 'eval')", "compile of text"),
        ("np.load(x, allow_pickle=True)", "allow_pickle that is not False"),
        ("np.load(x, allow_pickle=flag)", "allow_pickle that is not False"),
        ("np.load(x)", "np.load without allow_pickle=False"),
        ("read(x, weights_only=False)", "weights_only that is not True"),
        ("zipfile.ZipFile(x).extractall(y)", "an archive is unpacked"),
        ("open(x, 'w')", "open writes past store.py"),
        ("path.open(mode='ab')", "path.open writes past store.py"),
        ("path.write_text(x)", "path.write_text writes past store.py"),
        ("np.save(path, x)", "np.save writes past store.py"),
        ("picture.save(path)", "picture.save writes past store.py"),
        ("frame.to_csv(path)", "frame.to_csv writes past store.py"),
        ("figure.savefig(path)", "figure.savefig writes past store.py"),
        ("json.dump(x, file)", "json.dump writes past store.py"),
    ],
)
def test_each_fault_is_found(snippet, fault):
    assert faults_of(snippet) == [fault]


def test_what_is_no_fault():
    assert faults_of("with store.atomic_file(path) as temporary:\n    picture.save(temporary)") == []
    assert faults_of("open(x)\npath.open('rb')\nnp.load(x, allow_pickle=False)\nre.compile(x)") == []


def test_what_is_allowed_is_there():
    for name, function in ALLOWED:
        text = (ROOT / "genbench" / name).read_text()
        assert not function or f"def {function}(" in text, (name, function)


def test_templates_trust_nothing():
    for file in ROOT.glob("genbench/report/templates/*.html"):
        text = file.read_text()
        for own in ('<script src="{{ file("assets/site.js") }}"></script>', '<script>{% include "site.js" %}</script>'):
            text = text.replace(own, "") if file.name == "base.html" else text
        for word in ("|safe", "| safe", "autoescape false", "<script", "javascript:", " onclick", " style="):
            assert word not in text, (file.name, word)
    script = (ROOT / "genbench/report/templates/site.js").read_text()
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval",
        "Function(",
        "fetch",
        "{{",
        "{%",
    ):
        assert word not in script, word
