"""The hooks that observe a job: what they are told and when, and that no number depends on them."""

import json
import random
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from finished import SMALL, essence, run_here
from plugin_sources import plugin_source
from records_factory import make_record
from toys import Toy, TwoPhases, build, toy_job

from genbench import hookimpl
from genbench.extension.observers import Observers
from genbench.extension.registry import Plugins
from genbench.metering.meter import Meter
from genbench.metering.progress_log import ProgressLog
from genbench.planning.session import Request, open_session
from genbench.records.point import FIELDS, Point, losses_of
from genbench.records.record_files import load_records
from genbench.records.run_folder import read_progress
from genbench.running.run import run_job
from genbench.support import faults, signals, store
from genbench.support.errors import BadInput
from genbench.support.faults import InjectedFault
from genbench.training import loop
from genbench.training.train import train

POINT = Point(1, 8, 0.5, 0.25, "train", 0.1, {"loss": 1.0})


def watched(job, *observers):
    """What tells these plugins of the job."""
    plugins = Plugins()
    for number, observer in enumerate(observers):
        plugins.manager.register(observer, name=f"observer {number}")
    return Observers(plugins, job)


def observer(action):
    """A plugin that does this at every point."""
    return SimpleNamespace(job_progress=hookimpl(lambda job, point: action(point)))


def trained(folder, data, *observers, model=Toy, **changes):
    """A toy after a training that these plugins observe, and its meter."""
    job = toy_job(folder, model, **changes)
    job.folder.mkdir(parents=True, exist_ok=True)
    meter, made = Meter(torch.device("cpu")), build(job, data, model)
    with meter.training():
        log = ProgressLog(job, job.folder, meter, watched(job, *observers).progress)
        return train(job, made, data, job.folder, meter, log), meter


def lines(folder, model=Toy, **changes):
    return store.read_lines(toy_job(folder, model, **changes).folder / "progress.jsonl")


def test_every_point_of_the_learning_curve_is_told_as_it_is_written(tmp_path, digits):
    told = []
    _, meter = trained(tmp_path, digits, observer(told.append), model=TwoPhases)
    written = lines(tmp_path, TwoPhases)
    assert [{**point.pop("losses"), **point, "seconds": round(point["seconds"], 3)} for point in told] == [
        {**line, "share": line["step"] / 20} for line in written
    ]
    assert [point["phase"] for point in told] == ["first"] * 10 + ["second"] * 10 and told[-1]["share"] == 1.0
    assert told[-1]["images"] == meter.images == 8 * 10 + 8 * 10 * 2


def test_all_losses_of_a_model_are_told_if_they_are_finite(tmp_path):
    told = []
    log = ProgressLog(toy_job(tmp_path), tmp_path, Meter(torch.device("cpu")), told.append)
    log.add("train", {"loss": torch.tensor(0.5), "kl": np.float32(0.25), "odd": float("nan")})
    assert told[0].as_dict()["losses"] == {"loss": 0.5, "kl": 0.25} and told[0].as_dict()["learning_rate"] is None
    (line,) = store.read_lines(tmp_path / "progress.jsonl")
    assert losses_of(line) == {"loss": 0.5, "kl": 0.25} and set(line) - {"loss", "kl"} == FIELDS - {"learning_rate"}


def test_a_loss_may_not_have_the_name_of_something_else_in_the_curve(tmp_path, digits):
    class Named(Toy):
        def loss(self, phase, batch):
            return {**super().loss(phase, batch), "step": torch.zeros(())}

    with pytest.raises(BadInput, match="'step' is not a loss"):
        trained(tmp_path, digits, model=Named)


def test_an_observer_changes_no_number(tmp_path, digits):
    def meddle(point):
        torch.manual_seed(0), torch.randn(3), np.random.seed(0), np.random.rand(), random.seed(0), random.random()
        point["losses"].clear()
        point["step"] = -1
        raise RuntimeError("and fails")

    def draws(*observers, **changes):
        model, meter = trained(tmp_path / str(len(observers)), digits, *observers, **changes)
        states = torch.rand(2).tolist(), np.random.rand(), random.random()
        text = [{**line, "seconds": 0} for line in lines(tmp_path / str(len(observers)))]
        return model.state_dict(), states, meter.images, meter.flops, text

    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    alone = draws()
    told = []
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    beside = draws(observer(meddle), observer(told.append))
    assert all(torch.equal(beside[0][name], value) for name, value in alone[0].items()) and alone[1:] == beside[1:]
    assert all(point["losses"]["loss"] > 0 and point["step"] > 0 for point in told), "each has a copy of its own"


def test_a_slow_observer_spends_nothing_of_the_budget(tmp_path, digits):
    trained(tmp_path / "first", digits)  # what a process imports once is on no clock
    naps = [0.5, 0.5]
    began = time.perf_counter()
    _, meter = trained(tmp_path, digits, observer(lambda point: time.sleep(naps.pop() if naps else 0)), budget="0.1s")
    assert not naps and meter.train_seconds < 0.6 < time.perf_counter() - began - 0.4
    assert meter.train_seconds >= lines(tmp_path, budget="0.1s")[-1]["seconds"] - 0.001 and meter.steps > 2


def test_a_failing_observer_is_logged_once_and_asked_again(tmp_path, caplog):
    def fails(point):
        raise SystemExit(f"at step {point['step']}")

    told = []
    observers = watched(toy_job(tmp_path), observer(fails), observer(told.append))
    for _ in range(3):
        observers.progress(POINT)
    (entry,) = caplog.records
    assert entry.message == "plugin observer 0: job_progress failed" and "at step 1" in caplog.text
    assert told == [POINT.as_dict()] * 3


def test_an_interruption_passes_through_an_observer(tmp_path, monkeypatch):
    def interrupted(point):
        raise KeyboardInterrupt

    monkeypatch.setattr(signals, "_received", {signal.SIGTERM})
    with pytest.raises(KeyboardInterrupt):
        watched(toy_job(tmp_path), observer(interrupted)).progress(POINT)


def test_what_an_observer_prints_is_no_result(tmp_path, capsys):
    watched(toy_job(tmp_path), observer(lambda point: print("hello"))).progress(POINT)
    assert capsys.readouterr() == ("", "hello\n")


def test_after_a_kill_points_come_again_and_the_curve_has_each_once(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 1e9)
    told = []
    faults.arm("train.step:8:raise")
    with pytest.raises(InjectedFault):
        trained(tmp_path, digits, observer(told.append))
    faults.arm("")
    assert [point["step"] for point in told] == list(range(1, 8))
    trained(tmp_path, digits, observer(told.append))
    assert [point["step"] for point in told] == [*range(1, 8), *range(1, 21)], "no checkpoint: all of them"
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 21))


def test_the_record_is_told_with_its_folder(tmp_path):
    told = []
    plugin = SimpleNamespace(job_finished=hookimpl(lambda record: told.append(record)))
    job = toy_job(tmp_path)
    watched(job, plugin).finished(make_record("toy"))
    assert told[0].folder == job.folder


OWN = plugin_source("""
class Own(Mean):
    name = "own"

@hookimpl
def train(job, model, data, folder, meter, log):
    if not isinstance(model, Own):
        return None
    log.rewind()
    for step in range(3):
        meter.steps += 1
        log.add("train", {"loss": 1 / meter.steps, "extra": step}, learning_rate=0.5)
    return model
""")
WATCHING = """
import json
from genbench import hookimpl

def tell(job, **news):
    with (job.runtime.out / "told.jsonl").open("a") as file:
        file.write(json.dumps({"job": job.label, **news}) + "\\n")

@hookimpl
def job_progress(job, point):
    tell(job, **point)

@hookimpl
def job_finished(job, record):
    tell(job, status=record.status, trained=record.cost.train is not None)
"""


def opened(folder, models, *plugins):
    """A session with these plugins, given as text."""
    for number, text in enumerate(plugins):
        (folder / f"plugin{number}.py").write_text(text)
    files = tuple(str(folder / f"plugin{number}.py") for number in range(len(plugins)))
    options = {"datasets": ["digits"], "budget": "20steps", "samples": 20, "likelihood_images": 10}
    return open_session(Request(None, options, models, (), device="cpu", out=folder / "runs", plugins=files))


def test_a_training_of_ones_own_is_told_and_drawn_too_and_references_end(tmp_path):
    session = opened(tmp_path, ("own",), OWN, WATCHING)
    for job in session.jobs:
        if job.model in ("own", "noise"):
            run_job(job, session.datasets["digits"], session.plugins)
    told = [json.loads(line) for line in (tmp_path / "runs" / "told.jsonl").read_text().splitlines()]
    points = [(line["job"], line["step"], line["share"], line["losses"]["extra"]) for line in told if "step" in line]
    assert points == [("own", 1, 0.05, 0), ("own", 2, 0.1, 1), ("own", 3, 0.15, 2)]
    ends = [(line["job"], line["status"], line["trained"]) for line in told if "status" in line]
    assert ends == [("own", "complete", True), ("noise", "complete", False)]
    (record,) = [record for record in load_records([tmp_path / "runs"]) if record.job.model == "own"]
    assert [line["extra"] for line in read_progress(record)] == [0, 1, 2]


def test_an_observer_is_in_no_key(tmp_path):
    def keys(job):
        return job.id, job.training_key, job.samples_key, job.evaluation_key, job.measurers, job.plugin

    beside, alone = opened(tmp_path, ("gaussian",), WATCHING), opened(tmp_path, ("gaussian",))
    assert [keys(job) for job in beside.jobs] == [keys(job) for job in alone.jobs]


@pytest.mark.slow
def test_an_observed_run_is_the_unobserved_one(tmp_path):
    (tmp_path / "watching.py").write_text(WATCHING)
    command = ["run", "-m", "gan", "--set", "gan.preset=tiny", *SMALL]
    run_here(*command, "--out", "alone", at=tmp_path)
    run_here(*command, "--out", "watched", "--plugin", "watching.py", at=tmp_path)
    assert essence(tmp_path / "alone") == essence(tmp_path / "watched")
