"""Nothing lost: what a crash at any instant leaves in files, checkpoints, samples, measurements and records."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from finished import run_of
from toys import Toy, build, toy_job, train_toy

from genbench.commands.verify import verify_run
from genbench.evaluate.parts import once, spared_seconds
from genbench.metering.meter import Meter
from genbench.metering.progress_log import ProgressLog
from genbench.records import checkpoint, run_folder
from genbench.records.job import Job
from genbench.records.record import Measurement
from genbench.records.training_state import TrainingState
from genbench.running import sample
from genbench.running.run import status_of
from genbench.support import faults, store
from genbench.support.errors import Cancelled, CorruptData, Diverged
from genbench.support.faults import POINTS, InjectedFault
from genbench.support.lock import locked
from genbench.training import loop

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def disarmed():
    yield
    faults.arm("")


# Fault points


@pytest.mark.parametrize(
    "wish", ["train.stepp:kill9", "train.step:explode", "train.step:0:raise", "train.step", "a:b:c:d"]
)
def test_a_wrong_fault_is_bad_input_that_names_the_known_ones(genbench, monkeypatch, wish):
    monkeypatch.setenv("GENBENCH_FAULT", wish)
    result = genbench("plugins")
    assert result.code == 2 and wish in result.err and "hint" in result.err
    known = {"train.stepp:kill9": "train.step", "train.step:explode": "kill9, raise, enospc, sigterm"}.get(wish, "")
    assert known in result.err


def test_every_point_is_passed_somewhere_and_documented():
    passed = {
        name for f in ROOT.glob("genbench/**/*.py") for name in re.findall(r'\bfault\("([^"]+)"\)', f.read_text())
    }
    assert passed == set(POINTS)
    words = (ROOT / "docs" / "reliability.md").read_text()
    assert all(f"`{name}`" in words for name in POINTS)


def test_a_fault_strikes_once_at_the_count_it_was_given():
    faults.arm("train.step:3:raise")
    faults.fault("train.step")
    faults.fault("train.update")
    faults.fault("train.step")
    with pytest.raises(InjectedFault):
        faults.fault("train.step")
    faults.fault("train.step")
    faults.arm("train.step:enospc")
    with pytest.raises(OSError, match="space"):
        faults.fault("train.step")


# Writing


def test_bytes_are_on_the_disk_before_they_have_their_name(tmp_path, monkeypatch):
    done = []
    sync, replace = store.sync, Path.replace
    monkeypatch.setattr(store, "sync", lambda path: (done.append(("sync", path.name)), sync(path)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (done.append(("rename", to.name)), replace(self, to))[1])
    store.write_text(tmp_path / "a", "text")
    assert done == [("sync", "a"), ("rename", "a"), ("sync", tmp_path.name)]
    done.clear()
    with store.atomic_folder(tmp_path / "folder") as folder:
        store.put(folder / "below" / "file", b"text")
    flushed = {name for what, name in done[: done.index(("rename", "folder"))] if what == "sync"}
    assert flushed == {"file", "below", "folder"} and done[-1] == ("sync", tmp_path.name)


@pytest.mark.parametrize("exchange", [True, False])
def test_a_replaced_folder_is_at_every_instant_the_old_one_or_the_new_one(tmp_path, monkeypatch, exchange):
    if not exchange:  # a file system that cannot: then it is put back by the next writer
        monkeypatch.setattr(store, "_exchange", lambda one, other: False)
    folder = tmp_path / "report"
    script = """
import sys
from pathlib import Path
from genbench.support import faults, store
if sys.argv[3] == "False":
    store._exchange = lambda one, other: False
    Path.replace = lambda self, to, replace=Path.replace: (replace(self, to), faults.fault("report.page"))
faults.arm(sys.argv[2])
with store.atomic_folder(Path(sys.argv[1])) as new:
    store.put(new / "file", "new")
"""
    for point in ["store.folder_written", "store.folder_renamed"] if exchange else ["report.page"]:
        with store.atomic_folder(folder) as old:
            store.put(old / "file", "old")
        command = [sys.executable, "-c", script, str(folder), f"{point}:kill9", str(exchange)]
        assert subprocess.run(command).returncode == -signal.SIGKILL
        if exchange:
            assert (folder / "file").read_text() == ("new" if point.endswith("renamed") else "old")
        else:
            assert not folder.exists()
            with pytest.raises(RuntimeError), store.atomic_folder(folder):
                raise RuntimeError
            assert (folder / "file").read_text() == "old"
        assert len(list(tmp_path.iterdir())) == 1 + exchange, "what the killed writer left"
        store.write_text(tmp_path / "other", "")
        (tmp_path / "other").unlink()
    with store.atomic_folder(folder):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["report"], "swept by the next writer of the same place"


def test_nothing_else_is_swept_whatever_its_name(tmp_path):
    names = ["my_old_report", "1_2_report", ".genbench_tmp_report", ".genbench_tmp_1_ab_other_report", "1_ab_report"]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / ".genbench_tmp_1_ab_report").mkdir()
    with store.atomic_folder(tmp_path / "report"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {*names, "report"}


def test_what_a_living_writer_is_writing_is_not_swept(tmp_path):
    with store.atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("slow")
        store.write_text(tmp_path / "a", "quick")
    assert (tmp_path / "a").read_text() == "slow"


def test_a_full_disk_is_told_as_such_by_whoever_finds_it(tmp_path):
    script = """
import resource, signal, sys, torch
from pathlib import Path
from genbench.records import checkpoint
from genbench.records.training_state import TrainingState
from genbench.support import store
from genbench.support.errors import EnvironmentProblem
folder = Path(sys.argv[1])
checkpoint.save(folder, {"model": {"w": torch.ones(10)}}, TrainingState(logged=1))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    checkpoint.save(folder, {"model": {"w": torch.ones(100000)}}, TrainingState(logged=2))
except EnvironmentProblem as problem:
    print(problem.message)
print(checkpoint.load(folder)[1].logged)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "c")], capture_output=True, text=True)
    assert "no space" in done.stdout and done.stdout.endswith("\n1\n"), done.stderr
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["latest"]


def test_a_line_cut_short_is_left_out_and_a_bad_one_is_named(tmp_path):
    file = tmp_path / "progress.jsonl"
    log = ProgressLog(toy_job(tmp_path), tmp_path, Meter(torch.device("cpu")))
    file.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert store.read_lines(file) == [{"step": 1}, {"step": 2}]
    log.rewind(1)
    store.append_json(file, {"step": 2})
    assert store.read_lines(file) == [{"step": 1}, {"step": 2}]
    file.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(CorruptData, match=r"progress\.jsonl:2"):
        log.rewind(3)


# Checkpoints


def save(folder, value):
    checkpoint.save(folder, {"model": {"w": torch.full((3,), float(value))}}, TrainingState(logged=value))


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("point", [name for name in POINTS if name.startswith("checkpoint.")])
def test_whenever_it_is_killed_the_newest_whole_checkpoint_is_found(tmp_path, point, damaged):
    """Also where the latest was damaged before: the one that a training went on from is never given up for nothing."""
    save(tmp_path, 1)
    save(tmp_path, 2)
    if damaged:
        (tmp_path / "latest" / "model.safetensors").write_bytes(b"")
    faults.arm(f"{point}:raise")
    with pytest.raises(InjectedFault):
        save(tmp_path, 3)
    before = 1 if damaged else 2
    assert checkpoint.load(tmp_path)[1].logged == (before if point == "checkpoint.begin" else 3)
    save(tmp_path, 4)
    assert checkpoint.load(tmp_path)[1].logged == 4
    assert {path.name for path in tmp_path.iterdir()} == {"latest", "previous"}


class Odd(Toy):
    """Logs what is not finite, and from a step on takes steps that are too long."""

    name = "odd"

    def loss(self, phase, batch):
        return {**super().loss(phase, batch), "odd": torch.tensor(float("nan"))}


def test_what_is_logged_may_be_not_finite_and_a_resumed_log_is_the_same(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(loop, "LOG_POINTS", 4)
    train_toy(tmp_path / "whole", digits, Odd)
    faults.arm("train.step:8:raise")
    with pytest.raises(InjectedFault):
        train_toy(tmp_path / "killed", digits, Odd)
    train_toy(tmp_path / "killed", digits, Odd)
    logs = [store.read_lines(toy_job(tmp_path / name, Odd).folder / "progress.jsonl") for name in ("whole", "killed")]
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in log] for log in logs]
    assert timeless[0] == timeless[1] and len(timeless[0]) == 5 and "odd" not in timeless[0][0]


def test_spoilt_weights_are_a_divergence_and_are_never_stored(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    step = loop.Trainer.step

    def spoiling(self, progress):
        step(self, progress)
        if self.meter.steps == 7:
            self.model.mean.data[0] = float("inf")

    monkeypatch.setattr(loop.Trainer, "step", spoiling)
    with pytest.raises(Diverged, match="after step 7"):
        train_toy(tmp_path, digits)
    tensors, state = checkpoint.load(toy_job(tmp_path).folder / "checkpoint")
    assert state.meter.steps == 6 and tensors["model"]["mean"].isfinite().all()


def test_a_checkpoint_knows_the_peak_of_memory(tmp_path, digits, monkeypatch):
    faults.arm("train.end:raise")
    with pytest.raises(InjectedFault):
        train_toy(tmp_path, digits)
    assert checkpoint.read_state(toy_job(tmp_path).folder / "checkpoint").meter.peak_bytes > 10_000_000


# Samples and measurements


def test_an_interrupted_sampling_goes_on_from_its_last_part(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(sample, "BLOCK", 5)
    job = toy_job(tmp_path, samples=23)
    job.folder.mkdir(parents=True)
    model = build(job, digits)
    whole = sample.sample(job, model, digits, tmp_path / "elsewhere", Meter(torch.device("cpu")))
    drawn = []
    draw = sample.draw
    monkeypatch.setattr(sample, "draw", lambda *a: (drawn.append(a[3:]), draw(*a))[1])
    monkeypatch.setattr(sample, "stop_requested", lambda: len(drawn) == 5)
    monkeypatch.setattr(sample, "stop_if_requested", lambda: sample.stop_requested() and stop())

    def stop():
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        sample.sample(job, model, digits, job.folder, Meter(torch.device("cpu")))
    drawn.clear()
    meter = Meter(torch.device("cpu"))
    with meter.sampling():
        samples = sample.sample(job, model, digits, job.folder, meter)
    assert drawn == [(0, 1), (0, 5), (15, 5), (20, 3)], "counted, warmed up, and drew what was missing"
    assert (samples.images == whole.images).all() and samples.clamped_share == whole.clamped_share
    assert meter.sampled == 23 and meter.sample_seconds > 0
    drawn.clear()
    monkeypatch.setattr(sample, "stop_requested", lambda: False)
    model.mean.data += 1
    sample.sample(job, model, digits, job.folder, Meter(torch.device("cpu")))
    assert len(drawn) == 2 + 5, "of other weights nothing is taken over"


def test_a_part_of_an_evaluation_is_measured_once(tmp_path):
    job = toy_job(tmp_path)
    job.folder.mkdir(parents=True)
    calls = []

    def measure():
        calls.append(1)
        time.sleep(0.05)
        return [Measurement(metric="m", value=0.1, interval=(0.0, 1.0), better="lower", settings={"a": 1})]

    spared_seconds()
    first, again = (once(job, {"samples": "x"}, measure) for _ in range(2))
    assert first == again and again[0].settings == {"a": 1} and len(calls) == 1
    assert spared_seconds() > 0.04 and spared_seconds() == 0
    once(job, {"samples": "y"}, measure)
    once(toy_job(tmp_path, evaluation=job.evaluation.model_copy(update={"k": 5})), {"samples": "x"}, measure)
    assert len(calls) == 3, "of other samples, or under other settings"


# Records


def test_a_record_never_vouches_for_what_is_being_changed(runs):
    """More samples are asked for, and the process dies when they have replaced the old ones."""
    folder = run_of(runs, "mine")
    before = run_folder.read_record(folder / "record.json")
    plain = store.read_json(folder / "job.json")
    plain["runtime"]["out"] = str(runs)
    old, asked = Job.model_validate(plain), Job.model_validate({**plain, "samples": 120})
    with locked(folder):
        run_folder.begin(asked, before.dataset)
        (folder / "samples.npy").write_bytes(b"half")
    assert verify_run(folder).state == "unfinished" and before.status == "complete"
    assert not (folder / "record.json").exists()
    assert run_folder.previous_record(asked) is None, "of other samples"
    assert run_folder.previous_record(old).to_json() == before.to_json()
    failed = run_folder.last_record(folder).model_copy(update={"status": "failed"})
    run_folder.end(old, failed)
    assert run_folder.previous_record(old).status == "complete", "its numbers are still there to be used"
    run_folder.end(old, run_folder.previous_record(old))
    assert not (folder / "earlier.json").exists()


def test_what_fails_of_the_signal_that_stops_a_run_is_no_failure_of_the_model(monkeypatch):
    """Ctrl-C also ends the compiler that a compiled network waits for."""
    killed = RuntimeError("C++ compile error")
    assert status_of(killed) == "failed"
    monkeypatch.setattr("genbench.support.progress._stop", True)
    assert status_of(killed) == "cancelled" and status_of(Diverged("NaN")) == "diverged"
