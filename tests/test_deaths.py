"""Processes that die, hang, are stopped or in each other's way; killed runs against undisturbed ones."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from finished import SMALL, record_of, run_of
from plugin_sources import plugin_source

from genbench.records import checkpoint
from genbench.records.run_folder import last_record
from genbench.support import progress, store
from genbench.support.errors import Busy
from genbench.support.lock import in_use, locked

SOAK = [sys.executable, str(Path(__file__).parent.parent / "tools" / "soak.py"), "--json"]


# Locks


def test_a_lock_keeps_other_threads_of_its_process_out(tmp_path):
    found = []

    def other():
        try:
            with locked(tmp_path):
                pass
        except Busy as busy:
            found.append(busy.message)

    with locked(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert str(os.getpid()) in found[0]
    with locked(tmp_path):
        pass


WORKER = plugin_source("""
class Endless(Dataset):
    def __len__(self):
        return 10**9
    def __getitem__(self, index):
        time.sleep(0.01)
        return index

class Loads(Mean):
    name = "loads"
    def loss(self, phase, batch):
        if not hasattr(self, "items"):
            loader = DataLoader(Endless(), num_workers=1, multiprocessing_context="fork")
            object.__setattr__(self, "items", iter(loader))
        next(self.items)
        return super().loss(phase, batch)
""")


def started(folder, *words):
    """A `genbench run` of a model with a data worker, once it trains; the process that works, and the run folder."""
    (folder / "loads.py").write_text(WORKER)
    command = [sys.executable, "-m", "genbench", "run", "--plugin", "loads.py", "-m", "loads", "-d", "digits",
               "--samples", "20", "--budget", "600s", "--device", "cpu", *words]  # fmt: skip
    run = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        log = waited(lambda: next(iter(folder.glob("runs/loads-*/progress.jsonl")), None))
        holder = waited(lambda: holder_of(log.parent / ".lock", run))
    except BaseException:
        run.kill()
        raise
    return run, holder, log.parent, command


def holder_of(lock, run):
    for process in psutil.Process(run.pid).children(recursive=True):
        if str(lock) in [file.path for file in process.open_files()] and process.children():
            return process
    return None


def waited(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "took too long"
        time.sleep(0.02)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["holder", "parent"])
def test_one_works_the_other_is_told_and_a_killed_one_leaves_nobody_who_writes(tmp_path, victim):
    run, holder, folder, command = started(tmp_path)
    try:
        (worker,) = holder.children()
        if victim == "parent":  # once is enough
            seconds, said = told_busy(command, tmp_path)
            assert seconds < 2 and f"process {holder.pid}," in said
        with pytest.raises(Busy, match=f"process {holder.pid},"), locked(folder):
            pass
        os.kill(holder.pid if victim == "holder" else run.pid, signal.SIGKILL)
        began = time.monotonic()
        waited(lambda: not in_use(folder), 2.0)
        assert time.monotonic() - began < 2
        written = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.name in ("progress.jsonl",)}
        if victim == "holder":
            assert run.wait(120) == 1 and "SIGKILL" in record_of(folder)["error"]["message"]
            assert record_of(folder)["error"]["hook"] == "train" and record_of(folder)["error"]["step"] > 0
        time.sleep(0.3)
        assert written == {file: file.stat().st_mtime_ns for file in written}
        assert not holder.is_running() or holder.status() == "zombie"
        waited(lambda: not worker.is_running() or worker.status() == "zombie", 15.0)
    finally:
        run.kill()
        run.communicate()


def told_busy(command, folder):
    """Seconds from the end of all other work to exit code 5, and what was said."""
    other = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in other.stderr:
        if "(3/4" in line:
            reached = time.monotonic()
            break
    said = other.stderr.readline()
    assert other.wait() == 5, said
    return time.monotonic() - reached, said


# Signals


@pytest.mark.slow
def test_sigterm_and_ctrl_c_leave_a_checkpoint_and_the_second_ctrl_c_waits_for_nothing(tmp_path):
    run, _, folder, _ = started(tmp_path, "--set", "loads.batch_size=8")
    run.send_signal(signal.SIGTERM)
    assert run.wait(120) == 143 and "to resume" in run.stderr.read()
    state = checkpoint.read_state(folder / "checkpoint")
    assert state.meter.steps > 0 and record_of(folder)["status"] == "cancelled"
    run, holder, folder, _ = started(tmp_path, "--set", "loads.batch_size=8")
    assert checkpoint.read_state(folder / "checkpoint").meter.steps == state.meter.steps
    holder.suspend()
    run.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert run.poll() is None, "it waits for the checkpoint"
    run.send_signal(signal.SIGINT)
    assert run.wait(20) == 130
    waited(lambda: not holder.is_running() or holder.status() == "zombie", 5.0)


# Deaths


MISHAPS = plugin_source("""
class Hangs(Mean):
    name = "hangs"
    steps = 0
    def mishap(self):
        ctypes.PyDLL(None).sleep(1000)  # in C, and lets no other thread of Python run
    def loss(self, phase, batch):
        self.steps += 1
        if self.steps == 8:
            self.mishap()
        return super().loss(phase, batch)

class Leaves(Hangs):
    name = "leaves"
    def mishap(self):
        os._exit(3)

class Faults(Hangs):
    name = "faults"
    def mishap(self):
        ctypes.string_at(0)

class Exits(Hangs):
    name = "exits"
    def mishap(self):
        sys.exit(4)

class Slips(Hangs):
    name = "slips"
    def mishap(self):
        os._exit(0)

class Stops(Hangs):
    name = "stops"
    def mishap(self):
        raise KeyboardInterrupt

class Scores(Mean):
    name = "scores"
    def log_prob(self, images, labels=None):
        raise KeyboardInterrupt("no score")

@hookimpl
def job_finished(job, record):
    raise KeyboardInterrupt
""")


@pytest.mark.slow
def test_however_a_process_dies_its_record_says_where(genbench, tmp_path):
    (tmp_path / "mishaps.py").write_text(MISHAPS)
    names = ("hangs", "leaves", "faults", "exits", "slips", "stops", "scores", "gaussian")
    models = [word for name in names for word in ("-m", name)]
    result = genbench("run", "--plugin", "mishaps.py", *models, *SMALL, "--hang-timeout", "8")
    assert result.code == 1
    errors = {name: record_of(run_of(tmp_path / "runs", name))["error"] for name in names}
    assert errors["gaussian"] is None
    itself = "plugin 'mishaps' itself raised KeyboardInterrupt"
    for name, (message, traceback) in {
        "hangs": ("no progress for 8 seconds", "in mishap"), "leaves": ("exited with code 3", ""),
        "faults": ("SIGSEGV", "in mishap"), "exits": ("exited with code 4", ""),
        "slips": ("exited with code 0", ""), "stops": (itself, "in mishap"), "scores": (itself, "no score"),
    }.items():  # fmt: skip
        error = errors[name]
        where = ("evaluate", None) if name == "scores" else ("train", 7)
        assert message in error["message"] and (error["hook"], error["step"]) == where, name
        assert error["plugin"] == "mishaps.py" or "mishaps" in error["plugin"]
        file = run_of(tmp_path / "runs", name) / "traceback.txt"
        assert traceback in file.read_text() if traceback else not file.exists(), name
        assert not [f for f in file.parent.iterdir() if f.name.startswith(store.TEMPORARY)]


def test_a_step_that_is_slow_but_goes_on_is_no_hang(tmp_path):
    script = """
import sys, time
from pathlib import Path
from genbench.support import progress
progress.watch(Path(sys.argv[1]), 1.0)
for step in range(8):
    progress.at("train", step)
    time.sleep(0.25)
progress.unwatch()
"""
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == 0
    assert not list(tmp_path.iterdir()) and progress.last_words(tmp_path) == progress.LastWords()


# Room


def test_a_disk_without_room_is_found_before_anything_starts(genbench, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    result = genbench("run", "-m", "gaussian", *SMALL)
    assert result.code == 4 and "free, but the runs need about" in result.err and not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("digits")
def test_a_disk_that_is_full_in_the_middle_is_no_success(tmp_path):
    command = [sys.executable, "-m", "genbench", "run", "-m", "gaussian", *SMALL]
    for wish, code in (("store.folder_written:enospc", 4), ("record.begin:enospc", 4), ("", 0)):
        environment = {**os.environ, "GENBENCH_FAULT": wish}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == code, (wish, done.stderr)
        assert ("no space left" in done.stderr.lower()) == bool(code), wish
        known = last_record(run_of(tmp_path / "runs", "gaussian"))  # set aside where the new one could not be written
        assert known.status == ("failed" if code else "complete")


# The whole


def soak(*words):
    done = subprocess.run([*SOAK, *words], capture_output=True, text=True)
    counts = json.loads(done.stdout)
    assert done.returncode == 0, counts["details"]
    return counts


@pytest.mark.slow
def test_a_killed_and_resumed_run_is_the_undisturbed_one():
    assert soak("--kills", "0", "--points", "train.step:5:kill9", "--work", "jobs")["points"] == 1


@pytest.mark.slow
def test_random_kills_of_every_shipped_model():
    models = "gaussian,vae,gan,ldm,ddpm,flow"
    assert soak("--kills", "8", "--points", "none", "--models", models, "--work", "jobs")["kills"] >= 8
