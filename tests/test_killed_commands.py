"""`genbench run`, killed with all its processes as it trains and as it draws, and run again, is the undisturbed run."""

import os
import signal
import subprocess
import sys
from typing import NamedTuple

import pytest
from finished import contents, essence, run_of

PLUGIN = """
import os, signal
import genbench.running.run, genbench.running.sample, genbench.training.loop
from genbench import Model, hookimpl
from genbench.support import faults

genbench.training.loop.CHECKPOINT_SECONDS = genbench.running.sample.SHARD_SECONDS = -1.0  # as often as can be
genbench.running.run.measure_throughput = lambda *_: []
strike, reports = faults._strike, int(os.environ.get("REPORTS", "0"))

def kill_all():
    os.killpg(os.getpgrp(), signal.SIGKILL)

def strike_all(wish, name):
    if (wish.name, wish.count) == (name, 1):
        kill_all()
    strike(wish, name)

def report(model, share):
    global reports
    reports -= 1
    if reports == 0:
        kill_all()

faults._strike, Model.report = strike_all, report

@hookimpl
def register_models(register):
    "None: it is here to kill."
"""
RUN = [sys.executable, "-m", "genbench", "run", "--plugin", "kills.py", "-d", "digits", "--budget", "12steps"]
RUN += ["--samples", "600", "--likelihood-images", "40", "--device", "cpu"]


class Case(NamedTuple):
    """A model with its options, and where its command is killed in turn.

    Reports are those of how far a call of `sample` is.
    """

    model: str
    settings: list[str]
    moments: list[str]


STYLE = ["network=style", "loss=non_saturating", "r1=0.1", "augment=ada", "augment_target=-1.0", "augment_images=200"]
CASES = {
    "ebm": Case("ebm", [], ["checkpoint.written:3", "sample.drawn:2"]),
    "style": Case("gan", STYLE, ["checkpoint.end:5", "sample.shard:1"]),
    "pixelcnn": Case("pixelcnn", [], ["56 reports", "sample.stored:1"]),
}


def run(folder, out, case, killed=""):
    """The command's exit code: of one that is killed at this point, or of one that ends."""
    words = [word for setting in ("preset=tiny", *case.settings) for word in ("--set", f"{case.model}.{setting}")]
    count, reports, _ = killed.partition(" reports")
    moment = {"REPORTS": count} if reports else {"GENBENCH_FAULT": f"{killed}:kill9" if killed else ""}
    command = [*RUN, "-m", case.model, *words, "--out", out]
    environment = {**os.environ, **moment}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, start_new_session=True).returncode


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_killed_command_is_run_again_to_the_same_bytes(tmp_path, case):
    (tmp_path / "kills.py").write_text(PLUGIN)
    assert run(tmp_path, "whole", case) == 0
    for moment in case.moments:
        assert run(tmp_path, "killed", case, moment) == -signal.SIGKILL, moment
    assert run(tmp_path, "killed", case) == 0
    assert essence(tmp_path / "killed") == essence(tmp_path / "whole")
    whole, killed = (run_of(tmp_path / out, case.model) for out in ("whole", "killed"))
    assert contents(killed) == contents(whole)
    assert not [*killed.glob("drawn")]
