"""The digest of source code: what it means counts, how it is written does not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from records_factory import seeds_of

from genbench.records.record import OTHER_CODE
from genbench.support.digests import code_digest
from genbench.tables.build import make_tables

ROOT = Path(__file__).parent.parent
SOURCE = '''
"""A module."""

WIDTH = 64
"""Channels."""


def twice(x: float, name="a") -> float:
    """Twice x."""
    return 2 * x  # a comment


class Layer:
    """A layer."""
'''
SAME = {
    "a comment": ("# a comment", "# another, with a comma"),
    "a docstring": ("Twice x.", "Two times x"),
    "a module's docstring": ("A module.", "The module."),
    "the docstring of a constant": ("Channels.", "How many channels."),
    "no docstring": ('    """Twice x."""\n', ""),
    "quotes": ('"a"', "'a'"),
    "layout": ("x: float, name", "\n    x: float,\n    name"),
    "parentheses": ("2 * x", "(2 * x)"),
    "another way to write a number": ("64", "0x40"),
}
OTHER = {
    "a constant": ("64", "65"),
    "its type": ("64", "64.0"),
    "a text": ('"a"', '"b"'),
    "an operator": ("2 * x", "2 + x"),
    "a name": ("def twice", "def double"),
    "a default left out": ('name="a"', "name"),
    "an annotation": ("-> float", "-> int"),
    "no value": ("WIDTH = 64", "WIDTH = None"),
}


def digest_of(folder, text):
    file = folder / "source.py"
    file.write_text(text)
    os.utime(file, ns=(len(text), hash(text) % 10**9))
    return code_digest(file)


@pytest.mark.parametrize("name", SAME)
def test_how_source_is_written_does_not_count(tmp_path, name):
    old, new = SAME[name]
    assert old in SOURCE and digest_of(tmp_path, SOURCE) == digest_of(tmp_path, SOURCE.replace(old, new))


@pytest.mark.parametrize("name", OTHER)
def test_what_source_means_counts(tmp_path, name):
    old, new = OTHER[name]
    assert old in SOURCE and digest_of(tmp_path, SOURCE) != digest_of(tmp_path, SOURCE.replace(old, new))


def test_a_digest_is_that_of_every_machine_and_python(tmp_path):
    assert digest_of(tmp_path, SOURCE) == ("b082e6cc2af25006e3548f768d52a9cad4c7fcb7c0fa8d4343f63ec1a562ca86")


def states(checkout, *words):
    """What `genbench plan` says of the model's job with the source of a checkout."""
    places = {**os.environ, "PYTHONPATH": f"{checkout}:{checkout / 'plugins'}"}
    command = [sys.executable, "-m", "genbench", *words, "-m", "vae", "-d", "digits", "--set", "vae.preset=tiny"]
    few = ["--budget", "2steps", "--samples", "70", "--likelihood-images", "4", "--device", "cpu"]
    done = subprocess.run([*command, *few], cwd=checkout, env=places, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line.split()[0] for line in done.stdout.splitlines() if " vae-digits" in line]


@pytest.mark.slow
def test_prose_in_shared_mathematics_and_in_a_plugin_trains_nothing_anew(tmp_path):
    for name in ("genbench", "plugins"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    nets, vae = tmp_path / "genbench" / "nets.py", tmp_path / "plugins" / "genbench_vae" / "__init__.py"
    states(tmp_path, "run")
    for file in (nets, vae):
        text = file.read_text().replace('"""', '"""In other words: ', 1)
        file.write_text(f"# A comment.\n{text}")
    assert states(tmp_path, "plan") == ["done"]
    nets.write_text(nets.read_text().replace("groups: int = 32", "groups: int = 16"))
    assert states(tmp_path, "plan") == ["to"]


def with_digest_of(record, what):
    stamp = record.environment.plugin.model_copy(update={"digest_of": what})
    return record.model_copy(update={"environment": record.environment.model_copy(update={"plugin": stamp})})


def test_a_record_of_an_earlier_version_is_other_code_beside_one_of_this():
    new, old = seeds_of("vae", [10.0, 11.0])
    new = with_digest_of(new, "meaning")
    (table,) = make_tables([new, old])
    names = {row.name for row in table.rows if row.kind == "model"}
    assert len(names) == 2 and any(OTHER_CODE in name for name in names)
    assert any(OTHER_CODE in note for note in table.footnotes)
    (alone,) = make_tables([old])
    assert [row.name for row in alone.rows] == ["vae"] and not any(OTHER_CODE in note for note in alone.footnotes)
