"""`genbench run`, killed with all its processes as it trains and as it draws, and run again, is the undisturbed run."""

import os
import signal
import subprocess
import sys

import pytest
from finished import essence, run_of

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
STYLE = ["network=style", "loss=non_saturating", "r1=0.1", "augment=ada", "augment_target=-1.0", "augment_images=200"]
MODELS = {
    "ebm": (["preset=tiny"], ["train.update:5", "checkpoint.written:3", "sample.drawn:2"]),
    "gan": (["preset=tiny", *STYLE], ["checkpoint.end:5", "train.update:7", "sample.shard:1"]),
    "pixelcnn": (["preset=tiny"], ["train.step:6", "56 reports", "sample.stored:1"]),
}
"""By model its options, and where it is killed in turn; reports are those of how far a call of `sample` is."""


def run(folder, out, model, settings, killed=""):
    """The command's exit code: of one that is killed at this point, or of one that ends."""
    words = [word for setting in settings for word in ("--set", f"{model}.{setting}")]
    count, reports, _ = killed.partition(" reports")
    moment = {"REPORTS": count} if reports else {"GENBENCH_FAULT": f"{killed}:kill9" if killed else ""}
    command = [*RUN, "-m", model, *words, "--out", out]
    environment = {**os.environ, **moment}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, start_new_session=True).returncode


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_killed_command_is_run_again_to_the_same_bytes(tmp_path, model):
    settings, moments = MODELS[model]
    (tmp_path / "kills.py").write_text(PLUGIN)
    assert run(tmp_path, "whole", model, settings) == 0
    for moment in moments:
        assert run(tmp_path, "killed", model, settings, moment) == -signal.SIGKILL, moment
    assert run(tmp_path, "killed", model, settings) == 0
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert essence(killed) == essence(whole)
    assert not [*run_of(killed, model).glob("drawn")]
