"""The tool that plants mistakes: it finds its places, notices what is noticed, and says what survives."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

FILE = Path(__file__).parent.parent / "tools" / "mutations.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("mutations", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutations"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mutations"]


def test_every_mistake_has_its_place_and_its_tests(tool):
    assert len(tool.MUTATIONS) == len({mutation.name for mutation in tool.MUTATIONS}) >= 16
    for mutation in tool.MUTATIONS:
        assert tool.place(mutation, tool.ROOT).is_file() and mutation.old != mutation.new
        assert mutation.tests and all((tool.ROOT / test.split("::")[0]).is_file() for test in mutation.tests)


@pytest.mark.parametrize(("old", "where"), [("no such text anywhere", "nowhere"), ("import torch\n", "genbench/")])
def test_a_text_that_is_gone_or_twice_there_is_an_error(tool, old, where):
    with pytest.raises(tool.GoneError, match=f"must be at exactly one place, it is in {where}"):
        tool.place(replace(tool.MUTATIONS[0], old=old), tool.ROOT)


@pytest.mark.slow
def test_a_mistake_is_noticed_by_its_tests_and_survives_those_of_something_else(tool, monkeypatch, capsys):
    (seen,) = (mutation for mutation in tool.MUTATIONS if "log2" in mutation.name)
    before = tool.place(seen, tool.ROOT).read_text()
    blind = replace(seen, name="unseen", tests=("tests/test_images.py::test_values_outside_are_clamped",))
    monkeypatch.setattr(tool, "MUTATIONS", (seen, blind))
    assert tool.main([]) == 1
    out = capsys.readouterr().out
    assert "1 of 2" in out and "SURVIVED  unseen" in out and f"noticed   {seen.name}" in out and "eight_bits" in out
    assert tool.place(seen, tool.ROOT).read_text() == before


def test_all_noticed_is_a_success(tool, monkeypatch, capsys):
    monkeypatch.setattr(tool, "try_mutation", lambda mutation: (True, "somewhere"))
    monkeypatch.setattr(tool, "check_whole", lambda mutations: None)
    assert tool.main([tool.MUTATIONS[0].name]) == 0 and "1 of 1" in capsys.readouterr().out
