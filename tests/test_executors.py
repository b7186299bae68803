"""Executors: what they are handed, in which order and how many at once; what ends a job; one from a plugin."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from finished import SMALL, essence, record_of, run_of
from plugin_sources import plugin_source
from toys import toy_job

from genbench import __version__, devices
from genbench.cli.console import JobProgress
from genbench.executors import Task, Work, run_by_command
from genbench.executors import local as local_executor
from genbench.executors.local import Local, Queue
from genbench.executors.schedule import Pool, forecast, longest_first
from genbench.planning.needs import FLOPS_PER_SECOND, find_needs, need
from genbench.records.job import Runtime
from genbench.records.record import PluginStamp
from genbench.records.task import Context, Need, make_task
from genbench.support.errors import Busy, as_error, plain_error
from genbench.support.text import number

GB = 10**9
NOWHERE = Context((), "")
COMMAND, SLURM = re.findall(
    r"```python \w+\.py\n(.*?)```", (Path(__file__).parent.parent / "docs" / "clusters.md").read_text(), re.DOTALL
)


def task(name, memory=GB, seconds=1.0):
    return Task(name, {}, {}, NOWHERE, 1, memory_bytes=memory, seconds=seconds)


def names(tasks):
    return [one.id for one in tasks]


# Order and memory


def test_the_longest_is_first_and_ties_keep_their_order():
    tasks = [task("a", seconds=1), task("b", seconds=3), task("c", seconds=None), task("d", seconds=3)]
    assert names(longest_first(tasks)) == ["c", "b", "d", "a"]


def test_a_job_begins_only_where_its_memory_is_left():
    pool, waiting = Pool(("cpu",), slots=3, capacity=10 * GB), [task("a", 6 * GB), task("b", 5 * GB), task("c", 4 * GB)]
    assert names([pool.take(waiting), pool.take(waiting)]) == ["a", "c"]  # b would exceed it; c fits beside a
    assert pool.take(waiting) is None and names(waiting) == ["b"]
    pool.running.pop(0)
    assert pool.take(waiting).id == "b" and pool.used == 9 * GB


def test_slots_bound_the_jobs_and_an_unknown_need_is_a_share():
    pool, waiting = Pool(("cpu",), slots=2, capacity=10 * GB), [task("a", None), task("b", None), task("c", 1)]
    assert [pool.take(waiting) is not None for _ in range(3)] == [True, True, False]
    assert pool.used == 10 * GB


def test_what_does_not_fit_at_all_runs_alone_with_a_warning():
    said, pool = [], Pool(("cpu",), slots=2, capacity=GB)
    queue = Queue([task("small", GB // 2), task("huge", 2 * GB)], said.append)
    small = queue.take(pool)
    taken = []
    waiter = threading.Thread(target=lambda: taken.append(queue.take(pool)))
    waiter.start()
    waiter.join(0.1)
    assert waiter.is_alive() and not said  # not beside the small one
    queue.give_back(small, pool)
    waiter.join(5)
    assert names(taken) == ["huge"] and not pool.admits(task("tiny", 1))
    assert [news["stage"] for news in said] == ["warning"] and "runs alone" in said[0]["text"]
    assert queue.take(pool) is None


def test_a_closed_queue_gives_nothing_more():
    queue = Queue([task("a")], lambda news: None)
    queue.close()
    assert queue.take(Pool(("cpu",), 1, GB)) is None


def test_a_forecast_adds_up_what_runs_after_another_and_the_memory_of_what_runs_at_once():
    tasks = [task("a", 3 * GB, 10.0), task("b", 2 * GB, 6.0), task("c", 2 * GB, 5.0), task("d", 1, None)]
    found = forecast(tasks, [Pool(("cpu",), slots=2, capacity=10 * GB)])
    assert found.begins == {"a": 0, "b": 0, "c": 6, "d": 10} and found.seconds == 11
    assert found.peak_bytes == {("cpu",): 5 * GB}
    tight = forecast(tasks, [Pool(("cpu",), slots=2, capacity=4 * GB)])
    assert tight.begins == {"a": 0, "d": 0, "b": 10, "c": 10} and tight.seconds == 16
    two = forecast(tasks, [Pool((f"cuda:{i}",), slots=1, capacity=10 * GB) for i in range(2)])
    assert two.seconds == 11 and set(two.peak_bytes.values()) == {3 * GB, 2 * GB}


def test_memory_for_jobs_is_what_is_free_within_the_control_groups_limit(monkeypatch, tmp_path):
    import psutil

    free = devices.memory_for_jobs(torch.device("cpu"))
    assert 0 < free <= psutil.virtual_memory().total
    monkeypatch.setattr(devices, "memory_limits", lambda: [12345])
    assert devices.memory_for_jobs(torch.device("cpu")) == 12345


# Needs


def test_needs_come_from_earlier_runs_before_they_come_from_counting(tmp_path):
    from genbench.planning.earlier import Earlier
    from genbench.planning.estimate import Estimate

    job = toy_job(tmp_path, runtime=Runtime(out=tmp_path, threads=2))
    about = Estimate(1, train_flops=1e11, sample_flops=1e10, estimated_peak_bytes=GB)
    assert need(job, about) == (GB, 1.1e11 / FLOPS_PER_SECOND["cpu"] / 2)
    assert need(toy_job(tmp_path, budget="9s"), about).seconds == 10.0
    team = toy_job(tmp_path, runtime=Runtime(out=tmp_path, peers=("cpu",)))
    assert need(team, about).memory_bytes == 2 * GB
    about.earlier = Earlier(1, None, None, None, None, None, 3 * GB, None, seconds=7.0)
    assert need(job, about) == (3 * GB, 7.0)
    assert need(toy_job(tmp_path), Estimate(1)) == Need(None, None)


DEADLY = plugin_source("""
class Good(Mean):
    name = "good"

class Deadly(Mean):
    name = "deadly"
    def loss(self, phase, batch):
        os._exit(3)
""")


def test_a_plugin_that_dies_while_it_is_counted_has_unknown_needs_and_ends_nothing(tmp_path, digits):
    from genbench.data.folders import data_root

    (tmp_path / "deadly.py").write_text(DEADLY)
    runtime = Runtime(out=tmp_path, plugins=(str(tmp_path / "deadly.py"),))
    plain = {"dataset_digest": digits.digest, "runtime": runtime, "config": {"batch_size": 8}}
    names = (("good", 0), ("deadly", 0), ("good", 1), ("real", 0))
    jobs = [toy_job(tmp_path, seed=seed, **plain).model_copy(update={"model": name}) for name, seed in names]
    good, deadly, again, real = find_needs(jobs, Context.of([], data_root(None)))
    assert deadly == Need() and good == again
    assert min(good.memory_bytes, real.memory_bytes) > 50 * 10**6 and good.seconds >= 0 == real.seconds


# What crosses


def test_a_task_is_plain_data_with_absolute_paths(tmp_path, digits, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").touch()
    runtime = Runtime(out=Path("runs"), cache=Path("c"), threads=3, plugins=("mine.py", "package"), weights=Path("w"))
    made = make_task(
        toy_job(tmp_path, runtime=runtime),
        digits.stamp(False),
        Context.of([Path("d.toml")], Path("data")),
        Need(GB, 2.0),
    )
    assert Task.from_json(made.to_json()) == made and "\n" not in made.to_json()
    there = {key: made.job["runtime"][key] for key in ("out", "cache", "weights")} | vars(made.context)
    assert there == {
        "out": f"{tmp_path}/runs", "cache": f"{tmp_path}/c", "weights": f"{tmp_path}/w", "genbench": __version__,
        "mark": "", "datasets": (f"{tmp_path}/d.toml",), "data_root": f"{tmp_path}/data",
    }  # fmt: skip
    assert made.job["runtime"]["plugins"] == [f"{tmp_path}/mine.py", "package"]
    assert (made.threads, made.gpus, made.memory_bytes, made.seconds) == (3, 0, GB, 2.0)
    on_gpus = toy_job(tmp_path, runtime=Runtime(device="cuda:0", peers=("cuda:1",)))
    assert make_task(on_gpus, digits.stamp(False), NOWHERE, Need()).gpus == 2
    assert made.on(("cuda:3",)).job["runtime"]["device"] == "cuda:3" and made.job["runtime"]["device"] == "cpu"


def test_an_error_keeps_its_kind_on_the_way():
    error = as_error(json.loads(json.dumps(plain_error(Busy("in use", "wait")))))
    assert isinstance(error, Busy) and (error.message, error.hint, error.exit_code) == ("in use", "wait", 5)


def test_a_bug_in_the_executors_own_code_is_not_lost(monkeypatch):
    monkeypatch.setattr(local_executor, "supervise", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Local().run(Work([Task("a", {"runtime": {}}, {}, NOWHERE, 1)], [("cpu",)], 2), lambda news: None)


# The command line


RUN = ["run", "-m", "gaussian", *SMALL]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--executor", "rya"], 2, "did you mean 'ray'"),
        (["--executor", "ray"], 4, 'pip install "genbench[ray]"'),
        (["--executor", "ray", "--device", "cuda:1"], 2, "--device cuda"),
    ],
)
def test_what_cannot_be_an_executor_is_found_before_anything_runs(genbench, tmp_path, monkeypatch, words, code, text):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "ray" else found(name, *a))
    result = genbench(*RUN, *words)
    assert result.code == code and text in result.err and not (tmp_path / "runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here to be asked")
def test_a_precision_is_not_guessed_for_a_gpu_elsewhere(genbench, tmp_path):
    (tmp_path / "command.py").write_text(COMMAND)
    words = ["plan", *RUN[1:-2], "--plugin", "command.py", "--executor", "command", "--device", "cuda"]
    refused = genbench(*words)
    assert refused.code == 2 and "--precision bf16 or fp32" in refused.err
    planned = genbench(*words, "--precision", "bf16")
    assert planned.code == 0 and "each job requests 1 CPUs, 1 GPUs" in planned.out


@pytest.mark.slow
def test_two_at_a_time_and_an_executor_of_fifteen_lines_leave_the_same_bytes(genbench, tmp_path, runs, gaussian_plugin):
    (tmp_path / "command.py").write_text(COMMAND)
    assert len([line for line in COMMAND.splitlines() if line.strip()]) <= 15
    words = ["run", "--plugin", gaussian_plugin, "-m", "mine", *SMALL]
    assert genbench(*words, "--jobs", 2, "--out", "two").code == 0
    own = genbench(*words, "--plugin", "command.py", "--executor", "command", "--out", "own")
    assert own.code == 0 and "(4/4)" in own.err and "mine" in own.out, own.err
    assert essence(runs) == essence(tmp_path / "two") == essence(tmp_path / "own")
    executors = [record_of(run_of(tmp_path / out, "mine"))["environment"]["executor"] for out in ("two", "own")]
    assert executors == ["local", "command"]
    assert not list((tmp_path / "own").glob(".genbench*"))


FORGETFUL = """
from genbench import hookimpl

@hookimpl
def register_executors(register):
    register("forgetful", Forgetful)

class Forgetful:
    def run(self, work, tell):
        tell(work.tasks[0].news("end", 1.0))
"""


def test_jobs_that_an_executor_says_nothing_of_are_named(genbench, tmp_path):
    (tmp_path / "forgetful.py").write_text(FORGETFUL)
    result = genbench(*RUN, "--plugin", "forgetful.py", "--executor", "forgetful")
    assert result.code == 4 and "without reporting on" in result.err and "noise-digits" in result.err


def test_a_plan_says_how_long_the_jobs_take_together(genbench, runs, gaussian_plugin):
    words = ["plan", "--plugin", gaussian_plugin, "-m", "mine", *SMALL, "--seeds", 4, "--jobs", 2]
    unknown = " ".join(genbench(*words, "--out", "elsewhere").out.split())
    assert "Training: 4 x 20 steps, time not known." in unknown and "no earlier run of mine, real" in unknown
    known = genbench(*words, "--out", runs)
    seconds = record_seconds(run_of(runs, "mine"))
    (said,) = re.findall(r"2 jobs at a time, longest first: ~(\S+) s in all\.", known.out)
    assert said == number(2 * seconds, "seconds")  # three more seeds, two at a time
    assert "cpu: at most ~" in known.out
    rows = [row for row in genbench(*words, "--out", runs, "--json").json if not row["done"]]
    assert [row["schedule"]["begin_seconds"] for row in rows] == pytest.approx([0, 0, seconds])
    assert all(row["schedule"]["memory_bytes"] > 50 * 10**6 for row in rows)


def record_seconds(folder):
    cost = record_of(folder)["cost"]
    return sum(cost[part]["seconds"] for part in ("train", "sample", "evaluate"))


# The process of a job


def planned(folder, digits, plugin, name):
    """A task of a model of the plugin file."""
    from genbench.data.folders import data_root
    from genbench.running.defaults import load_plugins

    _, info = load_plugins([str(plugin)]).model(name)
    job = toy_job(
        folder, dataset_digest=digits.digest, budget="10000steps", config={"batch_size": 8},
        runtime=Runtime(out=folder, plugins=(str(plugin),)),
        plugin=PluginStamp(name=info.name, version="", digest=info.digest),
    ).model_copy(update={"model": name, "label": name})  # fmt: skip
    return make_task(job, digits.stamp(False), Context.of([], data_root(None)), Need())


def told(made, **changes):
    """All that the command says of a task."""
    said = []
    run_by_command([sys.executable], Task(**{**vars(made), **changes}), said.append)
    return said


def test_code_or_folders_that_are_not_the_plans_are_refused(tmp_path, digits):
    (tmp_path / "deadly.py").write_text(DEADLY)
    made = planned(tmp_path / "runs", digits, tmp_path / "deadly.py", "good")
    (elsewhere,) = told(made, context=replace(made.context, mark=str(tmp_path / "runs" / "mark")))
    assert elsewhere["error"]["kind"] == "EnvironmentProblem" and "all machines share" in elsewhere["error"]["hint"]
    (tmp_path / "deadly.py").write_text(DEADLY + "\nCHANGED = True\n")
    *_, last = told(made)
    assert last["error"]["kind"] == "EnvironmentProblem" and "planned with" in last["error"]["message"]
    assert not list((tmp_path / "runs").glob("*/record.json"))


def test_a_command_that_says_nothing_is_an_error(tmp_path):
    said = []
    run_by_command([sys.executable, "-c", "raise SystemExit(7)"], task("a"), said.append)
    assert said[0]["error"]["kind"] == "EnvironmentProblem" and "code 7" in said[0]["error"]["message"]


def test_the_srun_of_the_documentation_asks_for_what_a_job_needs(tmp_path, monkeypatch):
    """With a command in its place that writes down how it was called."""
    scripts = tmp_path / "bin"
    scripts.mkdir()
    (scripts / "srun").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nread task\n')
    (scripts / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{scripts}:{os.environ['PATH']}")
    made = {}
    exec_module(SLURM, made)
    said = []
    tasks = [
        Task("a", {}, {}, NOWHERE, 4, memory_bytes=3 * 2**30),
        Task("b", {}, {}, NOWHERE, 2, gpus=1, memory_bytes=1),
    ]
    made["Slurm"]().run(Work(tasks, [("cpu",)]), said.append)
    calls = (tmp_path / "calls").read_text()
    assert "--cpus-per-task=2 --job-name=b --gpus=1 python -P -m genbench" in calls
    assert "--cpus-per-task=4 --job-name=a --mem=3073M python -P -m genbench" in calls
    assert {news["id"] for news in said} == {"a", "b"} and all("error" in news for news in said)


def exec_module(source, names):
    """Run the source of a module."""
    exec(compile(source, "module", "exec"), names)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["starter", pytest.param("signal", marks=pytest.mark.slow)])
def test_a_task_ends_with_its_starter_and_checkpoints_at_a_signal(tmp_path, digits, end):
    (tmp_path / "slow.py").write_text(DEADLY)
    made = planned(tmp_path / "runs", digits, tmp_path / "slow.py", "good")
    command = [sys.executable, "-m", "genbench.executors.supervise", "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    print(made.to_json(), file=process.stdin, flush=True)
    for line in process.stdout:
        if '"train"' in line and "step" in line:
            break
    if end == "signal":
        process.send_signal(signal.SIGTERM)
        assert json.loads(process.stdout.readlines()[-1])["stage"] == "end" and process.wait(20) == 0
        assert record_of(run_of(tmp_path / "runs", "good"))["status"] == "cancelled"
    else:
        process.stdin.close()
        assert process.wait(5) == 1
        assert not list((tmp_path / "runs").glob("*/record.json"))


# Progress


def test_a_terminal_shows_a_line_for_every_job_that_runs_and_one_for_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    first, second, third = (toy_job(tmp_path, seed=seed) for seed in (0, 1, 2))
    with JobProgress(3) as progress:
        progress.update(third, "end", 1.0, "")
        progress.update(first, "train", 0.5, "step 10")
        progress.update(second, "sample", 0.0, "", {})
        progress.update(first, "end", 1.0, "failed")
        bars = {bar.description: (bar.completed, " ".join(bar.fields["stage"].split())) for bar in progress.bars.tasks}
    assert bars == {"all jobs 2/3": (2, ""), "toy digits seed 1": (0.0, "sample 0%")}
    said = capsys.readouterr().err
    assert "toy digits seed 0: failed in 0:00" in said and "toy digits seed 2: done before" in said


def test_a_log_has_a_line_for_every_job_and_its_warnings(tmp_path, capsys):
    first, second = (toy_job(tmp_path, seed=seed) for seed in (0, 1))
    with JobProgress(2) as progress:
        for job, stage, text in ((first, "train", "step 1"), (second, "warning", "it runs alone"), (first, "end", "")):
            progress.update(job, stage, 0.0, text)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"{first.id}: train 0% step 1", f"{second.id}: warning: it runs alone", f"{first.id}: done (1/2)"]
