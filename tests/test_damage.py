"""Every file between disk and number, damaged in every way: it heals by itself, or the hint leads out in one step."""

import json
import re
import shutil
import subprocess
from contextlib import nullcontext
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from finished import run_here
from rights import unprivileged

from genbench.evaluate import classifier_training
from genbench.executors import local
from genbench.records.job import Job
from genbench.running import run as running
from genbench.running.defaults import load_plugins
from genbench.running.loading import prepared
from genbench.support.errors import GenbenchError

RUN = [
    "run", "-m", "gaussian", "-d", "digits", "--extractor", "local-classifier", "--budget", "5steps", "--samples", "65",
    "--likelihood-images", "10", "--curve", "2", "--device", "cpu", "--allow-rank-deficient",
]  # fmt: skip


def flip(file, place=0.6):
    content = bytearray(file.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    file.write_bytes(content)


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def become_folder(file):
    file.unlink()
    file.mkdir()


def another(file):
    """The same kind of file with other content, as from another folder."""
    if file.suffix == ".npy":
        np.save(file, np.load(file)[::-1])
    elif file.suffix == ".json":
        file.write_text(json.dumps({**json.loads(file.read_text()), "seconds": 1.0, "digest": "0" * 64}))
    else:
        flip(file, 0.99)


DAMAGES = {
    "a flipped bit": flip, "cut short": truncate, "empty": lambda file: file.write_bytes(b""),
    "a text": lambda file: file.write_text("not found"), "gone": Path.unlink, "another's": another,
    "a folder": become_folder, "forbidden": lambda file: file.chmod(0),
}  # fmt: skip
USUAL = ("a flipped bit", "another's", "cut short", "gone")
PREPARED = [f"cache/datasets/*/{name}" for name in (
    "dataset.json", "checked.json", "train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy"
)]  # fmt: skip
CACHED = [
    "cache/classifiers/*/classifier.json", "cache/classifiers/*/classifier.safetensors",
    "cache/features/*-train-*.json", "cache/features/*-train-*.safetensors",
]  # fmt: skip
ROW = "runs/gaussian-*/"
FINISHED = [ROW + name for name in (
    "record.json", "job.json", "samples.npy", "samples.json", "progress.jsonl", "pictures.json",
    "pictures/neighbours.npy", "checkpoint/latest/manifest.json", "checkpoint/latest/ema.safetensors",
    "curve/1/manifest.json", "curve/1/ema.safetensors", "curve/1/scores.json",
)]  # fmt: skip
UNDER_WAY = [name for name in FINISHED if "record" not in name] + [ROW + "measured/*.json"]


def inline(task, tell, stopping):
    """A task in this process."""
    job = Job.model_validate(task.job)
    try:
        running.run_job(job, prepared(job, task.context), load_plugins())
        tell(task.news("end", 1.0))
    except GenbenchError as error:
        tell(task.problem(error))


@pytest.fixture(scope="module")
def short():
    """Jobs in this process, with a classifier that is soon trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "supervise", inline)
        patch.setattr(local, "start_forkserver", lambda: None)
        patch.setattr(classifier_training, "UPDATES", 20)
        yield patch


@pytest.fixture(scope="module")
def made(tmp_path_factory, short):
    """A cache and finished runs; in `before`, the row of the model as it was just before its record was written."""
    home = tmp_path_factory.mktemp("made here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENBENCH_CACHE", str(home / "cache"))
        patch.setenv("GENBENCH_DATA", str(home / "data"))
        end = running.end

        def kept(job, record):
            shutil.copytree(job.folder, home / "before" / job.folder.name)
            end(job, record)

        patch.setattr(running, "end", kept)
        run_here(*RUN, "--out", home / "runs")
    return home


@pytest.fixture
def home(made, tmp_path, monkeypatch):
    """A copy of them, in a folder with a space in its name; the data root stays, where datasets know it by its path."""
    home = tmp_path / "at home"
    for name in ("cache", "runs"):
        shutil.copytree(made / name, home / name)
    monkeypatch.setenv("GENBENCH_CACHE", str(home / "cache"))
    monkeypatch.setenv("GENBENCH_DATA", str(made / "data"))
    return home


def one(home, pattern):
    return sorted(home.glob(pattern))[0]


def take_back(made, home, measured=True):
    """The model's row as it was before its record was written, perhaps without its measurements."""
    row = one(home, "runs/gaussian-*")
    shutil.rmtree(row)
    shutil.copytree(made / "before" / row.name, row)
    if not measured:
        shutil.rmtree(row / "measured")
        one(home, ROW + "curve/1/scores.json").unlink()


def numbers(runs):
    """All that was measured, by row."""
    records = [json.loads(file.read_text()) for file in sorted(runs.glob("*/record.json"))]
    assert all(record["status"] == "complete" for record in records), [record["error"] for record in records]
    points = [[point["measurements"] for point in record["curve"]] for record in records]
    return [(r["job"]["label"], r["measurements"], curve) for r, curve in zip(records, points)]


def follow(result):
    """Do what the hints of a command say."""
    commands = re.findall(r"hint: [^`\n]*`(.+?)`", result.err + result.out)
    assert commands, result.err + result.out
    for command in commands:
        subprocess.run(["sh", "-ec", command], check=True)


def expect_right(genbench, made, home, command):
    """The command gives the right numbers, or fails with a hint, after which it gives them; then nothing is wrong."""
    result = genbench(*command)
    if result.code:
        assert result.code in (3, 4), result.err
        follow(result)
        result = genbench(*command)
    assert result.code == 0, result.err
    assert numbers(home / "runs") == numbers(made / "runs")
    if (verdict := genbench("verify", home / "runs")).code:
        follow(verdict)
        assert genbench(*RUN, "--out", home / "runs").code == 0
        assert numbers(home / "runs") == numbers(made / "runs")
        assert genbench("verify", home / "runs").code == 0


def damaged(pattern, damage, home):
    """Damage a file; returns the rights that the commands after it run with."""
    DAMAGES[damage](one(home, pattern))
    return unprivileged() if damage == "forbidden" else nullcontext()


def cases(patterns):
    """Every file with every damage, slow but for one damage of each file."""
    return [
        pytest.param(pattern, damage, marks=() if damage == usual else pytest.mark.slow)
        for pattern, usual in zip(patterns, cycle(USUAL))
        for damage in DAMAGES
    ]


@pytest.mark.parametrize("pattern, damage", cases([*PREPARED, *CACHED]))
def test_what_is_cached_makes_no_wrong_number(genbench, made, home, pattern, damage):
    take_back(made, home, measured=False)
    with damaged(pattern, damage, home):
        expect_right(genbench, made, home, [*RUN, "--out", home / "runs"])


@pytest.mark.parametrize("pattern, damage", cases(UNDER_WAY))
def test_a_run_under_way_goes_on_to_the_right_numbers(genbench, made, home, pattern, damage):
    take_back(made, home)
    with damaged(pattern, damage, home):
        expect_right(genbench, made, home, [*RUN, "--out", home / "runs"])


@pytest.mark.parametrize("pattern, damage", cases([*FINISHED, *PREPARED, *CACHED]))
def test_verify_finds_it_and_says_the_way_out(genbench, made, home, pattern, damage):
    with damaged(pattern, damage, home):
        result = genbench("verify", home / "runs")
        if damage != "gone" and "checked" not in pattern:
            assert result.code == 3 and Path(pattern).suffix in result.out
        if result.code:
            follow(result)
        assert genbench(*RUN, "--out", home / "runs").code == 0
        assert numbers(home / "runs") == numbers(made / "runs")
        assert genbench("verify", home / "runs").code == 0


@pytest.mark.parametrize(
    "words, name",
    [
        pytest.param(["evaluate", ROW, "--extractor", "digits-classifier-v1"], ROW + "samples.npy", id="scored again"),
        pytest.param(["evaluate", ROW, "--extractor", "digits-classifier-v1"], ROW + "job.json", id="of another job"),
        pytest.param(["evaluate", ROW, "--extractor", "digits-classifier-v1"], PREPARED[2], id="against others"),
        pytest.param(["table", "runs"], ROW + "record.json", id="a table"),
        *(
            pytest.param(["report", "runs", "-o", "pages"], ROW + name, id=name, marks=pytest.mark.slow)
            for name in ("samples.npy", "pictures/neighbours.npy", "progress.jsonl", "pictures.json", "record.json")
        ),
    ],
)
def test_no_command_shows_what_has_changed(genbench, made, home, words, name):
    command = [one(home, word) if "runs" in word else home / word if word == "pages" else word for word in words]
    flip(one(home, name), 0.99 if name.endswith(".jsonl") else 0.6)
    result = genbench(*command)
    assert result.code == 3 and Path(name).name in result.err
    follow(result)
    assert genbench(*RUN, "--out", home / "runs").code == 0
    assert numbers(home / "runs") == numbers(made / "runs")
    assert genbench(*command).code == 0
