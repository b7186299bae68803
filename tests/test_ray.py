"""The same jobs on a Ray cluster of two nodes: the bytes of local ones; what is lost ends no other job."""

import functools
import os
import signal
import subprocess
import sys

import pytest
from finished import essence, record_of, run_of
from plugin_sources import plugin_source

from genbench.executors import Task
from genbench.executors.ray import connected, resources_of
from genbench.records.task import Context
from genbench.support.errors import EnvironmentProblem

MISHAPS = plugin_source("""
class Exits(Mean):
    name = "exits"
    def sample(self, n, labels=None):
        os._exit(3)

class Faults(Mean):
    name = "faults"
    def loss(self, phase, batch):
        return super().loss(phase, batch) + float(ctypes.string_at(0) == b"")
""")
MODELS = ("ldm", "gan", "gaussian")
SMALL = ["-d", "digits", "--samples", "20", "--likelihood-images", "4", "--precision", "fp32", "--device", "cpu"]
SUITE = [*(word for name in MODELS for word in ("-m", name)), "--budget", "9steps", *SMALL,
         *(word for name in MODELS[:-1] for word in ("--set", f"{name}.preset=tiny"))]  # fmt: skip


def command(*words):
    return [sys.executable, "-m", "genbench", "run", *map(str, words)]


@pytest.fixture(scope="module")
def cluster():
    """A head that runs no jobs, and two nodes of one CPU each."""
    pytest.importorskip("ray", reason='Ray is not installed: pip install "genbench[ray]"')
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    made = Cluster(True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    made.environment = {**os.environ, "RAY_ADDRESS": made.address, "OMP_NUM_THREADS": "1"}
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    """The suite of models, its jobs one after the other on this machine."""
    out = tmp_path_factory.mktemp("one") / "runs"
    subprocess.run(command(*SUITE, "--out", out), env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    return out


def assert_same_bytes(out, before, executor):
    """Measurements, samples and weights; and an environment that differs in the executor alone."""
    found = essence(out)
    assert found == essence(before)
    assert set(found) == {*MODELS, "real", "copies", "noise"}
    assert len({weights for *_, weights in found.values()}) == len(MODELS) + 1
    environments = [record_of(run_of(folder, "gan"))["environment"] for folder in (before, out)]
    assert [environment.pop("executor") for environment in environments] == ["local", executor]
    assert environments[0] == environments[1]


@pytest.mark.slow
def test_jobs_side_by_side_leave_the_bytes_of_jobs_one_by_one(one_by_one, tmp_path):
    words = command(*SUITE, "--jobs", 2, "--out", tmp_path)
    subprocess.run(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    assert_same_bytes(tmp_path, one_by_one, "local")


@pytest.mark.slow
def test_jobs_on_a_cluster_leave_the_bytes_of_jobs_one_by_one(cluster, one_by_one, tmp_path):
    words = command(*SUITE, "--jobs", 2, "--executor", "ray", "--out", tmp_path)
    subprocess.run(words, env=cluster.environment, check=True)
    assert_same_bytes(tmp_path, one_by_one, "ray")
    assert not list(tmp_path.glob(".genbench*"))


@pytest.mark.slow
def test_what_ends_a_process_on_a_node_is_a_failed_record_and_ends_no_other_job(cluster, tmp_path):
    (tmp_path / "mishaps.py").write_text(MISHAPS)
    models = [word for name in ("exits", "faults", "gaussian") for word in ("-m", name)]
    words = [*models, "--plugin", "mishaps.py", "--budget", "9steps", *SMALL, "--executor", "ray", "--out", "runs"]
    done = subprocess.run(command(*words), env=cluster.environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    found = {name: record_of(run_of(tmp_path / "runs", name)) for name in ("exits", "faults", "gaussian")}
    assert {name: record["status"] for name, record in found.items()} == {
        "exits": "failed", "faults": "failed", "gaussian": "complete"
    }  # fmt: skip
    messages = {name: record["error"]["message"] for name, record in found.items() if record["error"]}
    assert "code 3" in messages["exits"] and "SIGSEGV" in messages["faults"]
    assert found["exits"]["error"]["hook"] == "sample" and found["faults"]["error"]["hook"] == "train"
    assert "string_at" in (run_of(tmp_path / "runs", "faults") / "traceback.txt").read_text()


LONG = ["-m", "vae", "--set", "vae.preset=tiny", "--budget", "1500steps", *SMALL]


def begin(cluster, out):
    """A run on the cluster that has begun to train."""
    words = command(*LONG, "--executor", "ray", "--out", out)
    listens = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # also where the tests run in background
    pipes = {"stderr": subprocess.PIPE, "text": True, "preexec_fn": listens}
    process = subprocess.Popen(words, env=cluster.environment, **pipes)
    for line in process.stderr:
        if "vae" in line and "train" in line:
            return process
    raise AssertionError("it has ended before it began to train")


@pytest.mark.slow
@pytest.mark.timeout(600)  # three trainings, and Ray misses a node after 15 s
def test_an_interruption_checkpoints_and_a_lost_node_costs_nothing_but_time(cluster, tmp_path):
    """First interrupted, then run again, losing the node: the bytes of a training that nothing happened to."""
    subprocess.run(command(*LONG, "--out", tmp_path / "calm"), env=cluster.environment, check=True)
    process = begin(cluster, tmp_path / "stormy")
    process.send_signal(signal.SIGINT)
    process.stderr.read()
    assert process.wait(60) == 130
    folder = run_of(tmp_path / "stormy", "vae")
    assert record_of(folder)["status"] == "cancelled" and (folder / "checkpoint/latest/optimizer.safetensors").exists()

    process = begin(cluster, tmp_path / "stormy")
    working = [node for node in cluster.nodes if holds(node, folder)]
    assert len(working) == 1
    cluster.remove_node(working[0], allow_graceful=False)
    rest = process.stderr.read()
    assert process.wait(60) == 0 and "restarted from" in rest, rest
    assert essence(tmp_path / "stormy") == essence(tmp_path / "calm")
    cluster.add_node(num_cpus=1)


def holds(node, folder):
    """Whether a process below the node's works in the folder."""
    import psutil

    holder = int((folder / ".lock").read_text().partition("process ")[2].partition(",")[0])
    raylet = node.all_processes["raylet"][0].process.pid
    return raylet in [parent.pid for parent in psutil.Process(holder).parents()]


def test_a_cluster_that_does_not_answer_is_found_at_once(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(EnvironmentProblem, match=r"RAY_ADDRESS=127\.0\.0\.1:1"), connected():
        pass


def test_a_job_asks_for_what_it_needs():
    def task(**needs):
        return Task("a", {}, {}, Context((), ""), **needs)

    nodes, said = [{"CPU": 4, "memory": 8e9}, {"CPU": 2, "GPU": 2, "memory": 4e9}], []
    assert resources_of(task(threads=4, memory_bytes=10**9), nodes, said.append) == {
        "num_cpus": 4, "num_gpus": 0, "memory": 10**9
    }  # fmt: skip
    assert resources_of(task(threads=2, gpus=2, memory_bytes=5 * 10**9), nodes, said.append) == {
        "num_cpus": 2, "num_gpus": 2
    }  # fmt: skip
    assert not said
    assert resources_of(task(threads=1, memory_bytes=9 * 10**9), nodes, said.append)["memory"] == 8e9
    assert "runs alone" in said[0]["text"] and "~8,583 MiB" in said[0]["text"]
    with pytest.raises(EnvironmentProblem, match="8 CPUs"):
        resources_of(task(threads=8), nodes, said.append)
