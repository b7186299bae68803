"""Time in which a process is stopped is not spent: real signals to real processes, and what is not taken for a stop."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest
from finished import record_of, run_of

from genbench.support import clock

HEAD = """
import ctypes, time
from genbench.support import clock
begin, wall = clock.now(), time.perf_counter()
print("ready", flush=True)
"""
TAIL = """
print(clock.now() - begin, time.perf_counter() - wall, *clock.stops())
"""
HOLD_GIL = "ctypes.PyDLL(None).usleep(1_600_000)"
"""A wait in foreign code that does not let go of the interpreter."""


@contextmanager
def process(code):
    """A process that runs the code between two looks at the clock, begun."""
    command = [sys.executable, "-c", HEAD + code + TAIL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        yield child


def stop(pid, seconds):
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(
    "work",
    ["while time.perf_counter() - wall < 1.9: pass", "time.sleep(1.9)"],
    ids=["computing", "waiting"],
)
def test_a_stop_is_not_on_the_clock(work):
    with process(work) as child:
        time.sleep(0.3)
        stop(child.pid, 1.5)
        passed, wall, number, seconds = map(float, child.stdout.read().split())
    assert number == 1 and seconds == pytest.approx(1.5, abs=0.3)
    assert passed == pytest.approx(wall - seconds, abs=0.01) and wall > 1.8


@pytest.mark.parametrize(
    "work", [HOLD_GIL, "pow(3, 7_500_000) % 7", "time.sleep(1.4)"], ids=["held", "computed", "slept"]
)
def test_a_slow_step_is_no_stop(work):
    """Whether foreign code waits or computes, and whether or not it lets others of the process run."""
    with process(work) as child:
        passed, wall, number, seconds = map(float, child.stdout.read().split())
    assert (number, seconds) == (0, 0) and passed == pytest.approx(wall, abs=0.01)


def test_a_forked_process_has_a_clock_of_its_own():
    began = clock.now()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        later = clock.now()
        os.write(writing, json.dumps(later - began).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert json.loads(os.read(reading, 100)) >= 0


# Whole runs

RUN = [
    sys.executable,
    "-m",
    "genbench",
    "run",
    "-d",
    "digits",
    "--samples",
    "100",
    "--likelihood-images",
    "4",
    "--out",
    "o",
]


@contextmanager
def running(folder, *words):
    """A run in a process group of its own, with its log; what is left of it is killed."""
    log = folder / "log"
    with log.open("w") as out:
        run = subprocess.Popen([*RUN, *words], cwd=folder, stdout=out, stderr=out, start_new_session=True)
    try:
        yield run, log
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()


def suspend(run, log, begun, seconds, after=0.5):
    """Stop all of the run's processes, as Ctrl-Z does, some time after something has begun."""
    while not begun():
        assert run.poll() is None, log.read_text()
        time.sleep(0.05)
    time.sleep(after)
    os.killpg(run.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.killpg(run.pid, signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_suspended_training_spends_its_whole_budget(tmp_path, processes, digits):
    long_steps = ["--set", "gaussian.micro_batch=32", "--set", "gaussian.batch_size=8192"]  # seldom a pause for a point
    words = ["-m", "gaussian", *long_steps, "--budget", "3s", "--processes", str(processes)]
    with running(tmp_path, *words) as (run, log):
        suspend(run, log, lambda: any(tmp_path.glob("o/gaussian*/progress.jsonl")), 4.0)
        assert run.wait(120) == 0, log.read_text()
    record = record_of(run_of(tmp_path / "o", "gaussian"))
    train = record["cost"]["train"]
    assert record["status"] == "complete" and 3.0 <= train["seconds"] < 3.5
    assert train["usage"]["stops"] == 1 and train["usage"]["stopped_seconds"] == pytest.approx(4.0, abs=0.5)
    warning = next(text for text in record["warnings"] if "stopped" in text)
    assert warning == f"training was stopped for {train['usage']['stopped_seconds']:.1f} seconds, which are not counted"
    assert f"warning: {warning}" in log.read_text() and "gaussian\xa0§" in log.read_text()


PLUGIN = """
import time
from pathlib import Path

import torch
from genbench import Model, Phase, hookimpl

class Slow(Model):
    name = "slow"

    def __init__(self, data, config):
        super().__init__(data, config)
        self.layer = torch.nn.Linear(1, 1)

    def phases(self):
        return [Phase("train", self.layer, torch.optim.SGD(self.layer.parameters(), 0.1))]

    def loss(self, phase, batch):
        Path("training").touch()
        time.sleep(2.0)
        return self.layer(torch.ones(1, 1)).square().sum()

    def sample(self, n, given=None):
        if n == 100:
            Path("sampling").touch()
            time.sleep(2.0)
        return torch.rand(n, *self.data.shape) * 2 - 1

@hookimpl
def register_models(register):
    register(Slow)
"""


@pytest.mark.slow
def test_stops_within_a_long_step_and_while_samples_are_drawn_are_not_counted(tmp_path, digits):
    (tmp_path / "slow.py").write_text(PLUGIN)
    with running(tmp_path, "-m", "slow", "--plugin", "slow.py", "--budget", "2steps") as (run, log):
        for stage in ("training", "sampling"):
            suspend(run, log, (tmp_path / stage).exists, 3.0)
        assert run.wait(120) == 0, log.read_text()
    cost = record_of(run_of(tmp_path / "o", "slow"))["cost"]
    for stage, most in (("train", 4.0), ("sample", 2.0)):  # a sleep goes on while a process is stopped
        assert cost[stage]["usage"]["stops"] == 1 and 0.5 <= cost[stage]["seconds"] < most + 0.5
        assert cost[stage]["usage"]["stopped_seconds"] == pytest.approx(3.0, abs=0.5)
    assert cost["train"]["usage"]["gaps"] == 0, "a step that is always slow is no gap"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be chosen here")
def test_two_on_one_processor_are_both_marked(tmp_path, digits):
    """Bound to the same processor, each of two has half of it, whatever else the machine is doing."""
    one = {min(os.sched_getaffinity(0))}
    folders = [tmp_path / name for name in ("a", "b")]
    runs = []
    for folder in folders:
        folder.mkdir()
        with (folder / "log").open("w") as out:
            command = [*RUN, "-m", "gaussian", "--budget", "4s"]
            runs.append(subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, start_new_session=True))
        psutil.Process(runs[-1].pid).cpu_affinity(list(one))
    for folder, run in zip(folders, runs):
        assert run.wait(120) == 0, (folder / "log").read_text()
        record = record_of(run_of(folder / "o", "gaussian"))
        usage = record["cost"]["train"]["usage"]
        assert usage["share"] < 0.8 and usage["waiting_seconds"] > 0.5
        assert "of the processor time that its threads could use" in record["warnings"][0]
        assert "--jobs 1" in (folder / "log").read_text()
