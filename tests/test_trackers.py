"""The shipped trackers: a run is followed while it trains, to its end; a missing library is named."""

import subprocess
import sys
import time
from types import ModuleType, SimpleNamespace

import pytest
from finished import SMALL, run_of
from toys import toy_job

from genbench.records.record import Failure
from genbench.records.record_files import load_one
from genbench.running.defaults import load_plugins

TRACKERS = {"genbench_tensorboard": "tensorboard", "genbench_wandb": "wandb", "genbench_mlflow": "mlflow"}
POINT = {"step": 2, "images": 64, "seconds": 4.0, "share": 0.1, "phase": "critic", "learning_rate": 0.5,
         "losses": {"loss": 0.25, "real_score": 1.5}}  # fmt: skip
DRAWN = {"critic/loss": 0.25, "critic/real_score": 1.5, "critic/learning_rate": 0.5, "speed/images_per_second": 16.0}


@pytest.fixture(autouse=True)
def fresh():
    """The trackers are imported anew, and forgotten afterwards."""
    yield
    for name in TRACKERS:
        sys.modules.pop(name, None)


def tracker(name):
    """The plugin, as a run loads it."""
    (info,) = [info for info in load_plugins([name]).infos if info.name == name]
    return info.plugin


def follow(plugin, folder, record, *points):
    """What a run does with a plugin; the job's id."""
    job = toy_job(folder)
    for point in points:
        plugin.job_progress(job, point)
    plugin.job_finished(job, record)
    return job.id


def failed(record):
    error = Failure(type="ValueError", message="no luck")
    return record.model_copy(update={"status": "failed", "error": error, "measurements": []})


def name_of_fid(record):
    (fid,) = [m for m in record.measurements if m.metric == "fid_test"]
    return f"fid_test/digits-classifier-v1/{fid.protocol[:8]}", fid.value


@pytest.mark.parametrize(("name", "library"), TRACKERS.items())
def test_a_missing_library_is_named_with_what_installs_it(genbench, monkeypatch, name, library):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if library == "tensorboard" else library, None)
    result = genbench("plan", "--plugin", name, "-m", "gaussian", "-d", "digits")
    assert result.code == 4 and f"--plugin {name}: it needs" in result.err
    assert f'hint: pip install "genbench[{library}]"' in result.err and result.err.count("pip install") == 1


def test_trackers_are_not_loaded_unless_they_are_named(genbench):
    assert not {plugin["name"] for plugin in genbench("plugins", "--json").json} & set(TRACKERS)


# With a library that only takes note


@pytest.fixture
def wandb(monkeypatch):
    """Weights & Biases as far as it is used: what is begun, logged, summed up and ended."""
    fake = ModuleType("wandb")
    fake.begun, fake.logged, fake.summary, fake.ended = [], [], {}, []
    run = SimpleNamespace(
        log=fake.logged.append, summary=fake.summary, define_metric=lambda name, step_metric: None,
        finish=lambda exit_code: fake.ended.append(exit_code),
    )  # fmt: skip
    fake.init = lambda **words: fake.begun.append(words) or run
    fake.Settings, fake.Image = dict, lambda pixels: pixels.shape
    fake.errors, fake.login = SimpleNamespace(UsageError=LookupError), lambda verify: True
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_a_run_of_weights_and_biases_has_curve_settings_results_and_samples(wandb, finished_runs, tmp_path):
    record = load_one(run_of(finished_runs, "mine"))
    job = follow(tracker("genbench_wandb"), tmp_path, record, POINT, {**POINT, "images": 128})
    (words,) = wandb.begun
    assert (words["id"], words["resume"], words["config"]["config"]["batch_size"]) == (job, "allow", 8)
    assert wandb.logged[0] == {"images": 64, **DRAWN} and wandb.logged[1]["images"] == 128
    assert wandb.logged[2]["samples"][2] == 3 and wandb.ended == [0] and wandb.summary["status"] == "complete"
    name, value = name_of_fid(record)
    assert wandb.summary[name] == value and wandb.summary["cost/train.images"] == record.cost.train.images > 0


def test_who_is_not_logged_in_is_told_before_anything_runs(genbench, wandb, monkeypatch):
    def login(verify):
        raise LookupError("No API key")

    wandb.login = login
    command = ("plan", "--plugin", "genbench_wandb", "-m", "gaussian", "-d", "digits")
    result = genbench(*command)
    assert (
        result.code == 4
        and "No API key" in result.err
        and "hint: `wandb login`, or set WANDB_MODE=offline" in result.err
    )
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert genbench(*command).code == 0


def test_what_has_no_training_ends_and_what_failed_is_marked(wandb, finished_runs, tmp_path):
    plugin = tracker("genbench_wandb")
    follow(plugin, tmp_path, load_one(run_of(finished_runs, "real")))
    assert wandb.ended == [0] and len(wandb.logged) == 1 and "cost/train.images" not in wandb.summary
    follow(plugin, tmp_path, failed(load_one(run_of(finished_runs, "mine"))))
    assert wandb.ended == [0, 1] and len(wandb.logged) == 1, "no samples of an earlier attempt"
    assert wandb.summary["status"] == "failed" and wandb.summary["error"] == "no luck"
    assert len(wandb.begun) == 2, "a run each"


# With the libraries themselves


def events(folder):
    """What TensorBoard reads in a folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder))
    read.Reload()
    return read


@pytest.mark.slow
def test_tensorboard_hides_what_was_logged_before_a_kill(finished_runs, tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is an extra")
    record, plugin = load_one(run_of(finished_runs, "mine")), tracker("genbench_tensorboard")
    for images in (64, 128, 192):
        plugin.job_progress(toy_job(tmp_path), {**POINT, "images": images})
    plugin.writers.clear()  # killed
    again = [{**POINT, "images": images, "losses": {"loss": 9.0}} for images in (128, 256)]
    job = follow(plugin, tmp_path, record, *again)
    read = events(tmp_path / "tensorboard" / job)
    assert [(event.step, event.value) for event in read.Scalars("critic/loss")] == [(64, 0.25), (128, 9.0), (256, 9.0)]
    name, value = name_of_fid(record)
    assert read.Scalars(name)[0].value == pytest.approx(value) and read.Images("samples")
    follow(plugin, tmp_path, failed(record))
    status = events(tmp_path / "tensorboard" / job).Tensors("status/text_summary")[-1]
    assert b"failed: no luck" in status.tensor_proto.string_val[0]


@pytest.mark.slow
def test_tensorboard_shows_a_loss_before_the_first_job_has_ended(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is an extra")
    words = ["-m", "vae", "-d", "digits", "--samples", "20", "--device", "cpu", "--budget", "600s"]
    command = [sys.executable, "-m", "genbench", "run", "--plugin", "genbench_tensorboard", *words]
    run = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end, read = time.monotonic() + 100, None
        while read is None or not {"train/loss", "train/kl"} <= {*read.Tags()["scalars"]}:
            assert time.monotonic() < end and run.poll() is None
            time.sleep(0.5)
            read = next(map(events, tmp_path.glob("runs/tensorboard/vae-*")), None)
        assert read.Scalars("train/loss")[0].value > 0
        assert not list(tmp_path.glob("runs/vae-*/record.json")) and run.poll() is None
    finally:
        run.kill()
        run.wait()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "library"), TRACKERS.items())
def test_a_run_is_followed_without_a_network_and_stays_whole(genbench, monkeypatch, tmp_path, name, library):
    pytest.importorskip(library, reason=f"{library} is an extra")
    for variable, value in {"WANDB_MODE": "offline", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}.items():
        monkeypatch.setenv(variable, value)
    command = [sys.executable, "-m", "genbench", "run", "--plugin", name, "-m", "gan", "--set", "gan.preset=tiny"]
    done = subprocess.run([*command, *SMALL], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "failed" not in done.stderr, done.stderr
    assert done.stdout.startswith("digits ("), "nothing of the tracker's among the results"
    assert genbench("verify", "runs").code == 0
    ids = [folder.name for folder in (tmp_path / "runs").glob("*-seed0-*")]
    assert len(ids) == 4
    for job in ids:
        {"tensorboard": check_tensorboard, "wandb": check_wandb, "mlflow": check_mlflow}[library](tmp_path, job)


def check_tensorboard(folder, job):
    scalars = events(folder / "runs" / "tensorboard" / job).Tags()["scalars"]
    assert any(name.startswith("fid_test/digits-classifier-v1/") for name in scalars)
    assert ({"generator/loss", "critic/loss", "critic/real_score"} <= {*scalars}) == job.startswith("gan")


def check_wandb(folder, job):
    (file,) = folder.glob(f"wandb/offline-run-*-{job}/run-{job}.wandb")
    written = file.read_bytes()
    assert b"fid_test/digits-classifier-v1/" in written and b'"complete"' in written
    assert (b"critic/real_score" in written) == job.startswith("gan")


def check_mlflow(folder, job):
    import mlflow

    (run,) = mlflow.search_runs(
        experiment_names=["genbench"], filter_string=f"run_name = '{job}'", output_format="list"
    )
    assert run.info.status == "FINISHED" and run.data.tags["status"] == "complete"
    assert any(name.startswith("fid_test/digits-classifier-v1/") for name in run.data.metrics)
    assert ("critic/real_score" in run.data.metrics) == job.startswith("gan")
    assert run.data.params["label"] == job.split("-")[0]
