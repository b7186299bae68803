"""Several processes train one model: the bytes of one process's weights; what ends one ends all, and leaves none."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from finished import essence, record_of, run_here, run_of
from plugin_sources import plugin_source
from toys import toy_job

from genbench.devices import group_devices
from genbench.metering.meter import Meter
from genbench.planning.config import ModelChoice, configure
from genbench.planning.session import processes_of_launcher
from genbench.records import checkpoint
from genbench.records.job import Runtime
from genbench.running.defaults import load_plugins
from genbench.support.errors import BadInput, Cancelled, Diverged, EnvironmentProblem, ProcessFailed
from genbench.training import loop
from genbench.training.loop import build_model
from genbench.training.train import train

PLUGIN = plugin_source("""
class Base(Mean):
    def __init__(self, data, config):
        super().__init__(data, config)
        self.rare = nn.Parameter(torch.zeros(()))
        self.idle = nn.Parameter(torch.ones(()))
        self.register_buffer("level", torch.zeros(()))
    def loss(self, phase, batch):
        self.mishap(dist.get_rank() if dist.is_initialized() else 0)
        loss = (batch.images - self.mean * (1 + self.level)).square().mean()
        self.level.lerp_(batch.images.mean(), 0.1)
        return loss + self.rare if batch.images[0].mean() > -0.3 else loss
    def mishap(self, rank):
        pass

class Fails(Base):
    name = "fails"
    class Config(Model.Config):
        how: str = field("", "train", "what befalls the second process")
    def mishap(self, rank):
        if rank == 1 and self.config.how == "kill": os.kill(os.getpid(), signal.SIGKILL)
        if rank == 1 and self.config.how == "raise": raise ValueError("my mistake")
    def loss(self, phase, batch):
        loss = super().loss(phase, batch)
        return loss * float("nan") if self.config.how == "nan" and dist.get_rank() == 1 else loss

class Warms(Mean):
    name = "warms"
    def loss(self, phase, batch):
        return super().loss(phase, batch) * (1 + batch.progress)

class Hangs(Base):
    name = "hangs"
""")


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    file = tmp_path_factory.mktemp("team") / "mishaps.py"
    file.write_text(PLUGIN)
    return str(file)


def team_job(folder, name, processes=2, plugin=(), budget="8steps", **config):
    plugins = load_plugins(plugin)
    kind, _ = plugins.model(name)
    preset = "tiny" if "tiny" in kind.presets else None
    made = configure(kind, ModelChoice(name=name, preset=preset, config={"batch_size": 16, **config}))
    runtime = Runtime(out=folder, peers=("cpu",) * (processes - 1), plugins=tuple(plugin))
    config, role = made.model_dump(mode="json"), made.of_role("train")
    job = toy_job(folder, kind, budget=budget, config=config, train_config=role, runtime=runtime)
    job.folder.mkdir(parents=True, exist_ok=True)
    return job, plugins


def trained(job, plugins, data):
    model = build_model(job, plugins, data, torch.device("cpu"))
    meter = Meter(torch.device("cpu"))
    with meter.training():
        return train(job, model, data, job.folder, meter).state_dict(), meter


def same(a, b):
    return all(torch.equal(a[name].view(-1).view(torch.uint8), b[name].view(-1).view(torch.uint8)) for name in a)


def others():
    """The processes below this one, apart from the servers that Python keeps."""
    return {process.pid for process in psutil.Process().children(recursive=True) if "_tracker" not in str(process)}


COMMAND = ["-m", "gan", "-m", "ldm", "-d", "digits", "--budget", "9steps", "--samples", "20", "--device", "cpu",
           "--set", "gan.preset=tiny", "--set", "ldm.preset=tiny", "--set", "gan.micro_batch=8",
           "--set", "ldm.micro_batch=16", "--likelihood-images", "4", "--precision", "fp32"]  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The same jobs by one process, and by two."""
    folders = []
    for processes in (1, 2):
        out = tmp_path_factory.mktemp("team") / f"by{processes}"
        run_here("run", *COMMAND, "--out", out, "--processes", processes)
        folders.append(out)
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gan", "ldm"])
def test_two_processes_give_the_weights_of_one_that_accumulates_their_micro_batches(pair, model):
    """Spectral norms (buffers that every pass moves), two phases side by side, and two end to end with `prepare`."""
    one, two = (next(out.glob(f"{model}-*")) for out in pair)
    assert one.name == two.name, "the number of processes is not part of the job"
    manifests = [json.loads((run / "checkpoint/latest/manifest.json").read_text())["files"] for run in (one, two)]
    assert manifests[0] == manifests[1] and {"model.safetensors", "ema.safetensors"} <= set(manifests[0])
    assert (one / "samples.npy").read_bytes() == (two / "samples.npy").read_bytes()
    logs = [[json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()] for run in (one, two)]
    timeless = [[{key: value for key, value in point.items() if key != "seconds"} for point in log] for log in logs]
    assert timeless[0] == timeless[1]


@pytest.mark.slow
def test_the_record_says_how_many_trained_and_counts_them_all(pair):
    for out, processes in zip(pair, (1, 2)):
        record = json.loads((next(out.glob("ldm-*")) / "record.json").read_text())
        cost = record["cost"]["train"]
        assert record["environment"]["processes"] == processes
        assert cost["images"] == 9 * 32
        assert cost["device_seconds"] == pytest.approx(processes * cost["seconds"], rel=0.01)
        for phase in cost["phases"].values():
            assert phase["device_seconds"] == pytest.approx(processes * phase["seconds"])
        assert ("2 processes" in cost["peak_source"]) == (processes == 2)
    records = [json.loads((next(out.glob("ldm-*")) / "record.json").read_text()) for out in pair]
    assert records[0]["cost"]["train"]["flops"] == records[1]["cost"]["train"]["flops"] > 0
    assert records[1]["cost"]["train"]["peak_bytes"] > 1.5 * records[0]["cost"]["train"]["peak_bytes"]


@pytest.mark.slow
def test_scoring_again_keeps_what_the_training_cost(pair, genbench, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(pair[1], runs)
    record = next(runs.glob("ldm-*")) / "record.json"
    before = json.loads(record.read_text())
    samples = ["--samples", "21", "--out", runs]
    assert genbench("run", *[word for word in COMMAND if word != "20" and word != "--samples"], *samples).code == 0
    after = json.loads(record.read_text())
    assert after["samples"]["count"] == 21 and after["environment"]["processes"] == 2
    assert after["cost"]["train"]["device_seconds"] == before["cost"]["train"]["device_seconds"]


@pytest.mark.parametrize(
    ("name", "processes", "config"),
    [
        ("gan", 1, {}),
        ("ldm", 1, {}),
        pytest.param(
            *("ldm", 2, {"first_stage": "vq", "codes": 16, "ae_share": 0.5, "ae_batch_size": 32}),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_interrupted_team_goes_on_as_if_nothing_had_been(tmp_path, digits, monkeypatch, name, processes, config):
    """Two micro-batches have one sum, whoever adds them. The last one's first stage has four, of 32 images."""
    config = {"micro_batch": 8, **config}
    whole, _ = trained(*team_job(tmp_path / "whole", name, processes, **config), digits)
    job, plugins = team_job(tmp_path / "stopped", name, **config)
    with monkeypatch.context() as patch:
        step, steps = loop.Trainer.step, []
        patch.setattr(loop.Trainer, "step", lambda self, progress: (steps.append(1), step(self, progress)))
        patch.setattr(loop, "stop_requested", lambda: len(steps) == 3)
        with pytest.raises(Cancelled):
            trained(job, plugins, digits)
    assert checkpoint.read_state(job.folder / "checkpoint").meter.steps == 3
    resumed, meter = trained(job, plugins, digits)
    assert meter.steps == 8 and same(resumed, whole)


def test_mirrored_images_and_progress_are_those_of_one_process(tmp_path, digits, plugin):
    one, two, straight = (
        trained(*team_job(tmp_path / str(n), "warms", n, (plugin,), micro_batch=8, flip=flip), digits)[0]
        for n, flip in ((1, True), (2, True), (1, False))
    )
    assert same(one, two) and not same(one, straight)


def test_a_gradient_that_only_some_have_counts_as_zero_and_one_that_none_has_stays_missing(tmp_path, digits, plugin):
    """AdamW would decay a weight whose gradient is zero, and leaves one alone that has none.

    A buffer that depends on the images is the one that the first micro-batch left, everywhere.
    """
    one, two = (
        trained(*team_job(tmp_path / str(n), "fails", n, (plugin,), budget="20steps", micro_batch=8), digits)[0]
        for n in (1, 2)
    )
    assert same(one, two) and one["idle"] == 1 and one["rare"] != 0 and one["level"] != 0


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ("kill", ProcessFailed, "process 2 of 2 was ended by SIGKILL"),
        ("raise", ProcessFailed, "process 2 of 2: ValueError: my mistake"),
        ("nan", Diverged, "the loss of phase 'train' is not finite"),
    ],
)
def test_what_ends_one_process_ends_all_soon_and_says_which(tmp_path, digits, plugin, how, error, words):
    before, began = others(), time.monotonic()
    with pytest.raises(error, match=words) as caught:
        trained(*team_job(tmp_path, "fails", 2, (plugin,), micro_batch=8, how=how), digits)
    assert time.monotonic() - began < 60
    if how == "raise":
        assert "mishap" in caught.value.__notes__[0], "the traceback of the process itself"
    assert not multiprocessing.active_children() and len(others() - before) <= 1  # Python's own server
    assert not torch.distributed.is_initialized()


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "took too long"
        time.sleep(0.1)
    return found


@pytest.mark.slow
def test_no_process_is_left_by_a_job_that_is_killed(tmp_path, plugin):
    command = [sys.executable, "-m", "genbench", "run", "--plugin", plugin, "-m", "hangs", "-d", "digits", "--samples",
               "20", "--budget", "600s", "--processes", "2", "--set", "hangs.micro_batch=32", "--device", "cpu",
               "--out", str(tmp_path / "runs")]  # fmt: skip
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: list(tmp_path.glob("runs/hangs-*/progress.jsonl")))
        below = psutil.Process(run.pid).children(recursive=True)
        held = str(next(tmp_path.glob("runs/hangs-*/.lock")))
        leader = next(process for process in below if held in [file.path for file in process.open_files()])
        assert len([process for process in below if "forkserver" in " ".join(process.cmdline())]) >= 4
        os.kill(leader.pid, signal.SIGKILL)
        wait_for(lambda: not leader.is_running() or leader.status() == "zombie", 15)
        team = [process for process in below if leader.pid == process.pid or "forkserver" in str(process)]
        assert run.wait(60) == 1
        record = record_of(run_of(tmp_path / "runs", "hangs"))
        assert record["status"] == "failed" and "SIGKILL" in record["error"]["message"]
        wait_for(lambda: not [process for process in [*below, *team] if alive(process)], 20)
    finally:
        run.kill()
        run.wait()


def alive(process):
    return process.is_running() and process.status() != "zombie"


# The plan


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ([], "--set gaussian.micro_batch=32"),
        (["--set", "gaussian.batch_size=9"], "set a batch_size divisible by 2"),
        (["--set", "gaussian.micro_batch=7"], ""),
    ],
)
def test_a_batch_that_cannot_be_dealt_out_is_refused_by_the_plan(genbench, options, hint):
    command = ["plan", "-m", "gaussian", "-d", "digits", "--device", "cpu"]
    refused = genbench(*command, "--processes", 2, *options)
    assert refused.code == 2 and hint in refused.err
    assert genbench(*command, "--processes", 2, "--set", "gaussian.micro_batch=16").code == 0


@pytest.mark.parametrize(
    ("micro", "first", "code", "told"),
    [
        (16, 8, 2, "a batch of 8 in one micro-batch cannot be split evenly across 2 processes"),
        (16, 8, 2, "--set ldm.micro_batch=4"),
        (16, 24, 2, "micro_batch: 16 does not divide the batch of phase 'autoencoder', 24"),
        (4, 8, 0, ""),
    ],
)
def test_processes_share_the_batch_of_every_phase(genbench, micro, first, code, told):
    options = ["preset=tiny", "batch_size=32", f"micro_batch={micro}", f"ae_batch_size={first}"]
    settings = [word for option in options for word in ("--set", f"ldm.{option}")]
    few = ["-d", "digits", "--device", "cpu", "--processes", 2, "--budget", "2steps"]
    planned = genbench("plan", "-m", "ldm", *settings, *few)
    assert planned.code == code and told in " ".join(planned.err.split())


PLAN = ["plan", "-m", "gaussian", "-d", "digits", "--device", "cpu", "--set", "gaussian.micro_batch=16"]


def test_only_the_first_of_torchruns_processes_does_anything(genbench, monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    other = genbench(*PLAN)
    assert (other.code, other.out, other.err) == (0, "", "")
    monkeypatch.setenv("RANK", "0")
    (row, *_) = genbench(*PLAN, "--json").json
    assert row["model"] == "gaussian" and processes_of_launcher(1) == 2
    contradicted = genbench(*PLAN, "--processes", "4")
    assert contradicted.code == 2 and "torchrun started 2" in contradicted.err


@pytest.mark.parametrize("words", [{}, {"RANK": "0"}, {"RANK": "0", "LOCAL_WORLD_SIZE": "1"}])
def test_another_launcher_of_several_processes_is_refused(genbench, monkeypatch, words):
    for name, value in ({"WORLD_SIZE": "2"} | words).items():
        monkeypatch.setenv(name, value)
    refused = genbench(*PLAN)
    assert refused.code == 2 and "launcher" in refused.err and "--processes" in refused.err


@pytest.mark.slow
def test_under_torchrun_its_processes_train_one_model_and_one_writes(pair, tmp_path):
    """To the bytes of as many `--processes`."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "genbench", "run", *COMMAND, "--out", tmp_path / "runs"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("done (5/5)") == 1
    assert essence(tmp_path / "runs") == essence(pair[1])
    assert record_of(run_of(tmp_path / "runs", "gan"))["environment"]["processes"] == 2


def test_devices_are_dealt_out_to_jobs(monkeypatch):
    cuda = [torch.device("cuda", i) for i in range(4)]
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    assert group_devices([torch.device("cpu")], 3) == [("cpu", "cpu", "cpu")]
    assert group_devices(cuda[:2], 1) == [("cuda:0",), ("cuda:1",)]
    assert group_devices(cuda, 2) == [("cuda:0", "cuda:1"), ("cuda:2", "cuda:3")]
    with pytest.raises(BadInput, match="each process needs its own CUDA device") as caught:
        group_devices(cuda[:1], 2)
    assert "cuda:0,cuda:1" in caught.value.hint
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    with pytest.raises(EnvironmentProblem, match="NCCL"):
        group_devices(cuda, 2)


def test_the_processes_of_a_job_divide_its_threads():
    assert Runtime(threads=8, peers=("cpu",) * 3).process_threads == 2
    assert Runtime(threads=1, peers=("cpu",)).process_threads == 1
