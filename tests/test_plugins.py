"""Plugins: found, isolated, and each fault listed with its reason."""

import inspect
import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from genbench import __version__, hookspecs
from genbench.data.entries import known_datasets
from genbench.extension import loading, registry
from genbench.running.defaults import load_plugins
from genbench.support.errors import BadInput, EnvironmentProblem

GOOD = """
from genbench import Model, hookimpl

@hookimpl
def register_models(register):
    class Toy(Model):
        name = "toy"
    register(Toy)
"""
HAS = f"but genbench {__version__} has 2 to 3"
FAULTS = {
    "syntax": ("def broken(:\n", "SyntaxError"),
    "import": ("import no_such_module_at_all\n", "no_such_module_at_all"),
    "exit": ("import sys\nsys.exit(3)\n", "SystemExit"),
    "misspelt hook": (GOOD.replace("def register_models", "def register_model"), "did you mean 'register_models'"),
    "no marker": (GOOD.replace("@hookimpl", ""), "no genbench hook"),
    "unknown argument": (GOOD.replace("(register)", "(registr)", 1), "registr"),
    "not a model": (GOOD.replace("class Toy(Model)", "class Toy"), "subclass of genbench.Model"),
    "bad name": (GOOD.replace('"toy"', '"../toy"'), "is not a valid name"),
    "bad dataset": (
        f"{GOOD}\n@hookimpl\ndef register_datasets(register):\n    register('mine', {{'source': 'foldr'}})\n",
        "register_datasets [mine]: source = 'foldr' (did you mean 'folder'?)",
    ),
    "bad source": (
        f"{GOOD}\n@hookimpl\ndef register_sources(register):\n    register('mine', dict)\n",
        "register_sources: 'mine': <class 'dict'> is not a subclass of genbench.data.source.Source",
    ),
}
KIND = """
from genbench import hookimpl
from genbench.data.source import Source

@hookimpl
def register_sources(register):
    register("empty", Empty)

class Empty(Source):
    def splits(self, place):
        return None

    def state(self, place):
        return []
"""
OF_THAT_KIND = """
from genbench import hookimpl

@hookimpl
def register_datasets(register):
    register("mine", {"source": "empty", "shape": [1, 8, 8]})
"""


def write(tmp_path, text, name="mine.py"):
    file = tmp_path / name
    file.write_text(text)
    return str(file)


def install(monkeypatch, tmp_path, **texts):
    """Entry points of modules written for the test, in place of the installed ones."""
    monkeypatch.syspath_prepend(tmp_path)
    points = []
    for name, text in texts.items():
        write(tmp_path, text, f"{name}_module_{tmp_path.name}.py")
        points.append(EntryPoint(name.split("__")[0], f"{name}_module_{tmp_path.name}", "genbench"))
    monkeypatch.setattr(loading, "installed", lambda: points)


def test_a_file_is_loaded_and_its_model_found(tmp_path):
    found = load_plugins([write(tmp_path, GOOD)])
    model, info = found.model("toy")
    assert model.name == "toy" and info.state == "ok" and len(info.digest) == 64


def test_every_model_that_ships_has_an_entry_point_of_its_name():
    """So that `-m` knows it before anything is imported."""
    plugins = load_plugins()
    found = {info.name: list(info.models) for info in plugins.infos if info.models}
    assert found == {name: [name] for name in plugins.model_names}
    loading.check_known(plugins.model_names, [])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_entry_point_is_listed_and_stops_nothing_else(tmp_path, monkeypatch, fault):
    text, reason = FAULTS[fault]
    install(monkeypatch, tmp_path, toy=GOOD, sick=text)
    found = load_plugins()
    states = {info.name: info for info in found.infos}
    assert states["toy"].state == "ok" and found.model("toy")
    assert states["sick"].state == "broken" and reason in states["sick"].reason
    assert states["sick"].models == [] and found.model_names == ["toy"]
    with pytest.raises(EnvironmentProblem, match="broken"):
        found.model("sick")
    with pytest.raises(BadInput, match="sick"):
        found.require_whole()


@pytest.mark.parametrize(
    ("said", "told"),
    [("4", f"genbench_api 4, {HAS}"), ("1", f"genbench_api 1, {HAS}"),
     ("'3'", "genbench_api is '3'"), ("None", "genbench_api is None")],
)  # fmt: skip
def test_a_plugin_for_another_interface_is_listed_and_refused_when_asked_for(
    genbench, tmp_path, monkeypatch, said, told
):
    monkeypatch.setattr(hookspecs, "OLDEST_API", 2)
    monkeypatch.setattr(hookspecs, "API", 3)
    other = GOOD.replace('"toy"', '"other"')
    install(monkeypatch, tmp_path, toy=f"genbench_api = {said}\n{GOOD}", other=f"genbench_api = 2\n{other}")
    rows = {row["name"]: row for row in genbench("plugins", "--json").json}
    assert rows["toy"]["state"] == "incompatible" and told in rows["toy"]["reason"] and not rows["toy"]["models"]
    assert rows["other"]["state"] == "ok" and load_plugins().model("other")
    with pytest.raises(EnvironmentProblem, match="incompatible") as problem:
        load_plugins().model("toy")
    assert told in problem.value.message and problem.value.exit_code == 4
    with pytest.raises(BadInput, match="genbench_api"):
        load_plugins().require_whole()


@pytest.mark.parametrize("version", range(hookspecs.OLDEST_API, hookspecs.API + 1))
def test_a_plugin_for_any_interface_since_the_oldest_is_loaded(tmp_path, version):
    model, info = load_plugins([write(tmp_path, f"genbench_api = {version}\n{GOOD}")]).model("toy")
    assert model.name == "toy" and info.state == "ok"


def test_a_slow_import_is_told_of_by_name_and_seconds(genbench, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "SLOW_SECONDS", 0.2)
    install(monkeypatch, tmp_path, slow=f"import time\ntime.sleep(0.3)\n{GOOD}", quick=GOOD.replace("toy", "other"))
    result = genbench("plugins", "--json")
    (line,) = result.err.splitlines()
    assert line.startswith("warning: plugin slow (") and re.search(r"its import took \d+\.\d s", line)
    assert [row["state"] for row in result.json] == ["ok", "ok"]
    monkeypatch.setattr(registry.multiprocessing, "parent_process", lambda: "the command")
    file = write(tmp_path, f"import time\ntime.sleep(0.3)\n{GOOD}")
    assert genbench("plugins", "--plugin", file, "--json").err == ""


def test_one_entry_point_name_of_two_distributions_is_neither(tmp_path, monkeypatch):
    install(monkeypatch, tmp_path, toy=GOOD, toy__again=GOOD)
    found = load_plugins()
    assert [info.state for info in found.infos] == ["duplicate", "duplicate"]


def test_one_model_of_two_plugins_is_neither(tmp_path, monkeypatch):
    install(monkeypatch, tmp_path, toy=GOOD, other=GOOD.replace('"toy"', '"TOY"'))
    found = load_plugins()
    assert {info.state for info in found.infos} == {"duplicate"}
    assert "also comes from" in found.infos[0].reason
    with pytest.raises(BadInput, match="comes from"):
        found.model("toy")


def test_a_copy_of_a_shipped_plugin_is_the_shipped_one_and_a_changed_copy_is_not(tmp_path):
    from genbench_gaussian import PixelGaussian

    copy = tmp_path / "copy.py"
    copy.write_bytes(Path(inspect.getfile(PixelGaussian)).read_bytes())
    found = load_plugins([str(copy)])
    assert found.model("gaussian")[0].__module__ == "genbench_gaussian" and "gaussian" in found.model_names
    copy.write_text(copy.read_text() + "CHANGED = True\n")
    with pytest.raises(BadInput, match="comes from"):
        load_plugins([str(copy)]).model("gaussian")


def test_the_digest_follows_the_source(tmp_path):
    first = load_plugins([write(tmp_path, GOOD)]).model("toy")[1].digest
    assert load_plugins([write(tmp_path, GOOD + "\nCHANGED = True\n")]).model("toy")[1].digest != first


def test_datasets_and_extractors_are_registered_by_name(tmp_path):
    text = """
from genbench import hookimpl

@hookimpl
def register_datasets(register):
    register("blobs", {"source": "array", "path": "/tmp/blobs.npy", "shape": [1, 8, 8]})
"""
    found = load_plugins([write(tmp_path, text)]).registered("register_datasets")
    assert found["blobs"][0]["source"] == "array"


def test_a_dataset_of_a_plugin_may_be_of_a_kind_that_another_registers(tmp_path, monkeypatch):
    install(monkeypatch, tmp_path, first=OF_THAT_KIND, second=KIND)
    found = load_plugins()
    assert {info.state for info in found.infos} == {"ok"} and known_datasets((), found)["mine"].origin.startswith(
        "plugin"
    )


def test_a_broken_kind_of_source_breaks_the_datasets_of_that_kind(tmp_path, monkeypatch):
    install(monkeypatch, tmp_path, first=OF_THAT_KIND, second=KIND.replace("def state", "def stat"))
    first, second = load_plugins().infos
    assert "does not define state()" in second.reason and "source = 'empty'" in first.reason
    assert "digits" in known_datasets((), load_plugins())
