"""`genbench verify`: one bit flipped in any kind of file is found and the file named, and nothing is written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from finished import run_here
from rights import unprivileged

from genbench.commands.verify import verify_run
from genbench.records import checkpoint
from genbench.support import store
from genbench.support.digests import settings_digest

KINDS = [
    "record.json", "job.json", "samples.json", "samples.npy", "labels.npy", "progress.jsonl",
    "checkpoint/latest/manifest.json", "checkpoint/latest/*.safetensors",
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory, session_cache):
    """A conditional run and the reference rows."""
    folder = tmp_path_factory.mktemp("made") / "runs"
    small = ["-d", "digits", "--budget", "5steps", "--samples", "100", "--likelihood-images", "20", "--device", "cpu"]
    run_here("run", "-m", "vae", "--set", "vae.preset=tiny", "--conditional", *small, "--out", folder)
    return folder


@pytest.fixture
def run(made, tmp_path):
    """A copy of the conditional run, beside the reference rows."""
    (folder,) = shutil.copytree(made, tmp_path / "runs").glob("vae-*")
    return folder


def flip(file, place, bit=0):
    content = bytearray(file.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1 << bit
    file.write_bytes(content)


def rewrite(run, change):
    """Change a record as a program would that also renews its digest."""
    file = run / "record.json"
    plain = json.loads(file.read_text())
    plain.pop("digest")
    change(plain)
    file.write_text(json.dumps({**plain, "digest": settings_digest(plain)}))


def test_a_removal_that_is_cut_short_leaves_nothing_that_is_wrong(run, monkeypatch):
    parts = run / store.DRAWN
    checkpoint.write(parts / "0", {"images": {"images": torch.zeros(2)}}, {})

    def killed_half_way(folder, ignore_errors):
        (file,) = folder.rglob("images.safetensors")
        file.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", killed_half_way)
        store.remove(parts)
    assert not parts.exists() and verify_run(run).state == "ok"
    store.sweep(run)
    assert not list(run.rglob(f"{store.TEMPORARY}*")) and verify_run(run).state == "ok"


def test_sound_runs_pass_and_nothing_is_written(genbench, run):
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in run.parent.rglob("*") if file.is_file()}
    result = genbench("verify", run.parent)
    states = [line.split()[0] for line in result.out.splitlines()]
    assert result.code == 0 and states[:3] == ["ok"] * 3 and set(states) == {"ok"}
    rows = genbench("verify", run, "--json").json
    assert [(row["state"], row["faults"]) for row in rows if row["kind"] == "run"] == [("ok", [])]
    assert {row["kind"] for row in rows} >= {"run", "dataset", "features"}
    after = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in run.parent.rglob("*") if file.is_file()}
    assert before == after


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_in_its_file(genbench, run, kind):
    for number, place in enumerate((0.0, 0.13, 0.5, 0.77, 0.95, 1.0)):
        file = next(run.glob(kind))
        content = file.read_bytes()
        flip(file, place, bit=number % 8)
        name = file.relative_to(run).as_posix()
        assert name in [fault.file for fault in verify_run(run).faults], (name, place)
        file.write_bytes(content)
    assert verify_run(run).state == "ok"
    flip(file, 0.5)
    result = genbench("verify", run.parent)
    states = {line.split()[1].split("/")[-1]: line for line in result.out.splitlines()}
    assert result.code == 3 and [line.split()[0] for line in states.values()].count("wrong") == 1
    assert states[run.name].startswith("wrong") and name in states[run.name]
    (row,) = [row for row in genbench("verify", run.parent, "--json").json if row["state"] == "wrong"]
    assert row["run"].endswith(run.name) and name in [fault["file"] for fault in row["faults"]]


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind not in ("record.json", "checkpoint/latest/manifest.json")]
)
def test_a_missing_file_is_named(run, kind):
    file = next(run.glob(kind))
    file.unlink()
    assert file.relative_to(run).as_posix() in [fault.file for fault in verify_run(run).faults]


def first(plain):
    return next(m for m in plain["measurements"] if m["value"] is not None)


CHANGES = {
    "a setting of a protocol": lambda r: next(iter(r["protocols"].values())).update(seed=1),
    "a protocol that is gone": lambda r: r["protocols"].pop(next(iter(r["protocols"]))),
    "a protocol that nobody has": lambda r: r["protocols"].update({settings_digest({"a": 1})[:12]: {"a": 1}}),
    "a measurement twice": lambda r: r["measurements"].append(r["measurements"][0]),
    "a value without its reason": lambda r: first(r).update(value=None),
    "a negative error": lambda r: first(r).update(stderr=-1.0),
    "a value outside its interval": lambda r: first(r).update(interval=[-2.0, -1.0]),
    "parts that are not the value": lambda r: first(r).update(parts={"a": first(r)["value"] + 1}),
    "another dataset": lambda r: r["dataset"].update(digest="0" * 64),
    "a missing key": lambda r: r.pop("job"),
    "no digest": lambda r: r.update(schema="1"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_record_that_contradicts_itself_is_found_whoever_wrote_it(run, name):
    rewrite(run, lambda plain: None)
    assert verify_run(run).state == "ok"
    rewrite(run, CHANGES[name])
    assert "record.json" in [fault.file for fault in verify_run(run).faults]


def test_numbers_that_are_not_json_are_found(run):
    file = run / "record.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": NaN', 1))
    assert "NaN" in verify_run(run).faults[0].what


def test_a_record_without_its_digest_is_found(run):
    file = run / "record.json"
    plain = json.loads(file.read_text())
    plain.pop("digest")
    file.write_text(json.dumps(plain))
    assert "digest" in verify_run(run).faults[0].what


def test_what_is_no_fault(genbench, run):
    """A checkpoint that was removed whole, a curve's last line cut short by a crash, a run that goes on, a new name."""
    shutil.rmtree(run / "checkpoint")
    assert verify_run(run.rename(run.with_name("renamed"))).state == "ok"
    going = run.with_name("going")
    shutil.copytree(run.with_name("renamed"), going)
    (going / "record.json").unlink()
    result = genbench("verify", run.parent)
    assert result.code == 0 and "unfinished" in result.out


def test_a_dataset_that_is_not_in_the_cache_is_no_fault(genbench, run, tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "nothing"))
    result = genbench("verify", run)
    assert result.code == 0 and "absent" in result.out and "not in the cache" in result.out
    assert [row["state"] for row in genbench("verify", run, "--json").json] == ["ok", "absent"]


def closed_run(run):
    return run


def closed_weights(run):
    (run / "record.json").unlink()
    return run / "checkpoint" / "latest"


def closed_job(run):
    (run / "record.json").unlink()
    return run / "job.json"


def closed_cache(run):
    return Path(os.environ["GENBENCH_CACHE"]) / "features"


@pytest.mark.parametrize("close", [closed_run, closed_weights, closed_job, closed_cache])
def test_what_may_not_be_read_does_not_pass(genbench, run, tmp_path, monkeypatch, close):
    """Also where the record is not there, which would tell what else there should be."""
    shutil.copytree(os.environ["GENBENCH_CACHE"], tmp_path / "cache")
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    path = close(run)
    path.chmod(0)
    with unprivileged():
        result = genbench("verify", run.parent)
    path.chmod(0o700)
    (wrong,) = [line for line in result.out.splitlines() if line.startswith("wrong")]
    assert result.code == 3 and str(path) in wrong + result.out and "Permission denied" in wrong
    assert f"`chmod u+rX {path}`" in result.out and "rm -rf" not in result.out
    assert genbench("verify", run.parent).code == 0


def test_a_closed_folder_is_missing_from_a_table_that_says_so(genbench, run):
    run.chmod(0)
    with unprivileged():
        result = genbench("table", run.parent)
    run.chmod(0o700)
    assert result.code == 4 and "noise" in result.out and f"{run}/record.json: Permission denied" in result.err
    assert f"`chmod u+rX {run}`" in result.err


def test_it_needs_no_torch(made):
    script = "import sys, pathlib; from genbench.commands.verify import verify_runs; "
    script += "verify_runs([pathlib.Path(sys.argv[1])]); "
    script += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script, str(made)]).returncode == 0
