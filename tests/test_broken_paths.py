"""Every command over every kind of broken path or stream: it works, or has one error with its exit code and a way out.

The commands and their paths are those of the command line itself, so that a new one is tried as soon as it is there.
"""

import errno
import io
import os
import shutil
import sys
import tempfile
import zipfile
from itertools import count
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image
from rights import unprivileged

from genbench.cli.main import cli

GOOD = {
    "suite": "suite.toml", "plugins": "mine.py", "plugin": "mine.py", "datasets": "own.toml", "data_root": "data",
    "weights": "weights", "runs": "runs", "run_folder": "runs/model",
    "target": "theirs.npy", "labels": "labels.npy", "v100": "factor.json", "out": "new", "report_to": "new",
    "name": "fresh", "about": "about.md", "hole": "given.png", "image": "given.png", "map": "given.png",
}  # fmt: skip
"""What to give for a parameter of this name: a file of `home`, unless it is to be written, or a word."""
SMALL = ["-d", "digits", "--budget", "5steps", "--samples", "100", "--likelihood-images", "10", "--device", "cpu"]
BESIDE = {
    "run": ["-m", "gaussian", *SMALL], "plan": ["-m", "gaussian", *SMALL], "evaluate": ["-d", "digits"],
    "sample": ["-n", "4", "-o", "x.npy"], "extractors": ["--check", "-d", "digits"],
    "compare": ["--labels", "gaussian", "noise"],
}  # fmt: skip
"""What a command needs beside its paths, so that it does not end before it looks at them."""
WITH = {"labels": ["--conditional"], "weights": ["--extractor", "inception-v3-compat", "--offline"]}
SUFFIXES = {("sample", "out"): ".npy"}
LONG = {"run", "evaluate", "extractors", "calibrate", "check-plugin", "report", "new-plugin"}
"""Commands that take seconds if they work."""
AT_ONCE = ["in a closed folder", "too long", "too deep", "a loop", "below a loop"]
"""Kinds that no command can work with."""
FRESH = count()


def is_path(param):
    """Whether a parameter may name a file or folder."""
    return isinstance(param.type, click.Path) or any(word in (param.metavar or "") for word in ("FILE", "DIR"))


def file(here, good):
    (path := here / f"text{good.suffix}").write_text("?")
    return path


def folder(here, good):
    (path := here / f"folder{good.suffix}").mkdir()
    return path


def unreadable(here, good):
    file(here, good).chmod(0)
    return file(here, good)


def closed(here, good):
    (path := here / "closed").mkdir(0)
    return path / good.name


def loop(here, good):
    (path := here / f"loop{good.suffix}").symlink_to(path)
    return path


def not_utf8(here, good):
    """The good file or folder under a name of Latin-1 bytes, or a new one if it is absent."""
    path = here / (os.fsdecode(b"caf\xe9%d" % next(FRESH)) + good.suffix)
    if good.exists():
        path.symlink_to(good)
    return path


KINDS = {
    "absent": lambda here, good: here / "nowhere" / good.name,
    "a file": file,
    "below a file": lambda here, good: file(here, good) / good.name,
    "a folder": folder,
    "unreadable": unreadable,
    "in a closed folder": closed,
    "too long": lambda here, good: here / f"{'x' * 300}{good.suffix}",
    "too deep": lambda here, good: Path(here, *["deep"] * 1000, good.name),
    "a loop": loop,
    "below a loop": lambda here, good: loop(here, good) / good.name,
    "not UTF-8": not_utf8,
}
PLACES = [(name, param) for name, command in sorted(cli.commands.items()) for param in command.params if is_path(param)]


@pytest.fixture(scope="module")
def home(prepared, tmp_path_factory, gaussian_plugin):
    """A folder with something good for every parameter."""
    home = tmp_path_factory.mktemp("home")
    for name in ("cache", "runs"):
        shutil.copytree(prepared / name, home / name)
    for name in ("data", "weights"):
        (home / name).mkdir()
    shutil.copy(gaussian_plugin, home / "mine.py")
    shutil.copy(home / "runs" / "model" / "samples.npy", home / "theirs.npy")
    np.save(home / "labels.npy", np.zeros(100, np.int64))
    (home / "suite.toml").write_text('datasets = ["digits"]\n[[models]]\nname = "gaussian"\n')
    (home / "own.toml").write_text('[own]\nsource = "folder"\npath = "images"\nshape = [1, 8, 8]\n')
    (home / "about.md").write_text("# About")
    Image.new("LA", (8, 8)).save(home / "given.png")
    (home / "factor.json").write_text('{"factor": 1.0, "basis": "given"}')
    return home


@pytest.fixture(autouse=True)
def surroundings(prepared, home, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(home / "cache"))
    monkeypatch.setenv("GENBENCH_DATA", str(prepared / "data"))


def words_of(command, home, param=None, path=None):
    """The words of a command with something good for whatever it needs, and with this path for one parameter."""
    words = [command, *BESIDE.get(command, []), *WITH.get(getattr(param, "name", ""), [])]
    for each in cli.commands[command].params:
        if each is param:
            value = path
        elif each.required:
            assert each.name in GOOD, f"say in GOOD what to give {command} for {each.name}"
            value = home / GOOD[each.name] if is_path(each) and GOOD[each.name] != "new" else GOOD[each.name]
        else:
            continue
        words += [value] if isinstance(each, click.Argument) else [each.opts[0], value]
    return words


def check(result):
    """No bug, no traceback, and one error if there is any."""
    assert result.code in (0, 1, 2, 3, 4), result.err
    assert "Traceback" not in result.out + result.err
    if result.code in (2, 4):
        assert result.err.count("genbench: error[") == 1 and "  hint: " in result.err


def cases():
    """Every path of every command with every kind, slow but for two kinds of each path that end at once."""
    for number, (command, param) in enumerate(PLACES):
        at_once = AT_ONCE if command in LONG else list(KINDS)
        usual = [at_once[(number + step) % len(at_once)] for step in (0, 4)]
        for kind in KINDS:
            marks = () if kind in usual else pytest.mark.slow
            yield pytest.param(command, param, kind, marks=marks, id=f"{command} {param.name} {kind}")


@pytest.mark.parametrize(("command", "param", "kind"), list(cases()))
def test_a_broken_path_has_one_error_and_a_way_out(genbench, home, tmp_path, command, param, kind):
    good = (tmp_path if GOOD[param.name] == "new" else home) / GOOD[param.name]
    good = good.with_suffix(SUFFIXES.get((command, param.name), good.suffix))
    words = words_of(command, home, param, KINDS[kind](tmp_path, good))
    with unprivileged():
        check(genbench(*words))


USUAL_VARIABLES = ("GENBENCH_CACHE", "HOME", "TMPDIR")
VARIABLES = ("GENBENCH_DATA", "GENBENCH_WEIGHTS", "XDG_CACHE_HOME", "MPLCONFIGDIR")


@pytest.mark.parametrize(
    "variable", [*USUAL_VARIABLES, *(pytest.param(each, marks=pytest.mark.slow) for each in VARIABLES)]
)
def test_a_broken_path_in_a_variable_too(genbench, home, tmp_path, monkeypatch, variable):
    """Of all kinds in turn, for a command that shows the folders and for one that reads and writes there."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    if variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv("GENBENCH_CACHE")
    for kind, make in KINDS.items():
        (here := tmp_path / kind).mkdir()
        monkeypatch.setenv(variable, str(make(here, home / "data")))
        for words in (["doctor"], words_of("plan", home)):
            with unprivileged():
                check(genbench(*words))


SOURCES = {"folder": "images", "array": "images.npy"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_path_in_a_datasets_file_too(genbench, tmp_path, kind):
    for source, good in SOURCES.items():
        (here := tmp_path / source).mkdir()
        path = str(KINDS[kind](here, tmp_path / good)).encode("unicode_escape").decode()
        if kind == "not UTF-8":  # no TOML file can hold it
            path = "caf\xe9"
        (tmp_path / "own.toml").write_text(f'[own]\nsource = "{source}"\npath = "{path}"\nshape = [1, 8, 8]\n')
        with unprivileged():
            result = genbench("plan", "-m", "gaussian", "-d", "own", "--datasets", "own.toml", "--offline")
        check(result)
        closed = kind == "in a closed folder" or (source, kind) == ("array", "unreadable")
        assert result.code == (4 if closed else 2), result.err


class Full(io.RawIOBase):
    """A file on a full disk."""

    def writable(self):
        return True

    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fileno(self):
        return os.open(os.devnull, os.O_WRONLY)


def unread():
    """A pipe of which nobody reads the other end."""
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


STREAMS = {"closed": lambda: None, "unread": unread, "full": lambda: io.TextIOWrapper(io.BufferedWriter(Full()))}
CODES = {("closed", "stdout"): 0, ("unread", "stdout"): 141, ("full", "stdout"): 4}
COMMANDS = [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in sorted(cli.commands)]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_stream_is_no_bug(genbench, home, monkeypatch, command):
    """Nobody need see the progress; a result that nobody can get is told by the exit code."""
    for state, make in STREAMS.items():
        for stream in ("stdout", "stderr"):
            with monkeypatch.context() as patch:
                patch.setattr(sys, stream, make())
                result = genbench(*words_of(command, home))
                assert getattr(sys, stream) is not None, "a library that prints would fail"
            said = result.out + result.err
            assert result.code == CODES.get((state, stream), 0), (state, stream, said)
            assert "Traceback" not in said and "please report" not in said
            assert ("standard output: No space left" in said) == (result.code == 4)
            shutil.rmtree("genbench-fresh", ignore_errors=True)


def test_a_report_replaces_no_folder_that_it_cannot_look_into(genbench, home, tmp_path):
    assert genbench("report", home / "runs" / "noise", "-o", "pages").code == 0
    (tmp_path / "pages" / "mine").mkdir()
    (tmp_path / "pages" / "mine" / "thesis.txt").write_text("mine")
    (tmp_path / "pages" / "mine").chmod(0)
    with unprivileged():
        result = genbench("report", home / "runs" / "noise", "-o", "pages")
    (tmp_path / "pages" / "mine").chmod(0o700)
    assert result.code == 4 and "pages/mine: Permission denied" in result.err
    assert (tmp_path / "pages" / "mine" / "thesis.txt").read_text() == "mine"


def test_an_earlier_run_that_may_not_be_read_keeps_no_other_from_being_planned(genbench, home, tmp_path):
    shutil.copytree(home / "runs", tmp_path / "new")
    (tmp_path / "new" / "model" / "record.json").chmod(0)
    with unprivileged():
        assert genbench(*words_of("plan", home), "--out", "new").code == 0


def test_an_archive_takes_any_name(genbench, home, tmp_path):
    shutil.copytree(home / "runs" / "noise", tmp_path / "runs" / "noise")
    (tmp_path / "runs" / "noise" / os.fsdecode(b"caf\xe9.txt")).write_text("a note")
    out = os.fsdecode(b"caf\xe9.zip")
    assert genbench("report", "runs", "--archive", "-o", out).code == 0
    with zipfile.ZipFile(out) as archive:
        assert {name.partition("/")[0] for name in archive.namelist()} == {"caf\\udce9"}
        assert [name for name in archive.namelist() if name.endswith("caf\\udce9.txt")]
