"""The command line, whole: runs, tables, reports, plugins, and every kind of bad input with its exit code."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from finished import run_here
from plugin_sources import plugin_source

SMALL = ["-d", "digits", "--budget", "30steps", "--samples", "100", "--likelihood-images", "40", "--device", "cpu"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, session_cache):
    """Run folders of two models and the reference rows, made once by the command itself."""
    folder = tmp_path_factory.mktemp("runs")
    run_here("run", "-m", "gaussian", "-m", "vae", "--set", "vae.preset=tiny", *SMALL, "--out", folder)
    return folder


def records(folder):
    return {
        record["job"]["label"]: record for record in (json.loads(f.read_text()) for f in folder.glob("*/record.json"))
    }


def values(record):
    return {m["metric"]: m["value"] for m in record["measurements"]}


def test_a_run_leaves_complete_records(runs):
    found = records(runs)
    assert set(found) == {"gaussian", "vae", "real", "copies", "noise"}
    for record in found.values():
        assert record["status"] == "complete" and record["samples"]["count"] == 100
        for measurement in record["measurements"]:
            assert measurement["protocol"] in record["protocols"]
            assert (measurement["value"] is None) == (measurement["status"] != "ok")
    train = found["vae"]["cost"]["train"]
    assert train["steps"] == 30 and train["images"] > 0 and train["flops"] > 0 and train["peak_bytes"] > 10**7
    assert sum(found["vae"]["cost"]["parameters_by_phase"].values()) == found["vae"]["cost"]["parameters"]
    assert found["vae"]["cost"]["sample"]["images_per_second"] > 0
    assert {"bits_per_dim_test", "bits_per_dim_train"} <= set(values(found["vae"]))
    assert found["real"]["cost"]["train"] is None
    labelled = values(found["real"]).keys() - {"class_accuracy"}
    assert labelled < values(found["real"]).keys()
    assert labelled == values(found["noise"]).keys() >= {"fid_train", "memorised_share"}


def test_the_rows_are_in_the_order_one_expects(runs):
    found = records(runs)
    for metric in ("fid_test", "fid_train", "kid_test"):
        real, gaussian, noise = (values(found[name])[metric] for name in ("real", "gaussian", "noise"))
        assert real < gaussian < noise, metric
    assert values(found["copies"])["fid_train"] < values(found["real"])["fid_train"]


def test_the_numbers_are_torch_fidelitys_own(runs, digits):
    """From samples.npy and the extractor alone, through torch-fidelity's functions."""
    import os
    from pathlib import Path

    import torch
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

    from genbench.evaluate.extractors import extractor
    from genbench.records.job import Runtime

    found = records(runs)["vae"]
    own = extractor("digits-classifier-v1", digits, Runtime(cache=Path(os.environ["GENBENCH_CACHE"])))
    samples = np.load(runs / found["job"]["id"] / "samples.npy")
    ours, test, train = (own.features(images) for images in (samples, digits.test.images, digits.train.images))
    statistics = [metric_fid.fid_features_to_statistics(f.features) for f in (ours, test, train)]
    protocols = {m["metric"]: found["protocols"][m["protocol"]] for m in found["measurements"]}
    expected = {
        "fid_test": metric_fid.fid_statistics_to_metric(statistics[0], statistics[1], False)[
            "frechet_inception_distance"
        ],
        "fid_train": metric_fid.fid_statistics_to_metric(statistics[0], statistics[2], False)[
            "frechet_inception_distance"
        ],
        "inception_score": metric_isc.isc_features_to_metric(ours.logits, 10, True, 2020)["inception_score_mean"],
    }
    for split, reference in (("test", test), ("train", train)):
        kid = metric_kid.kid_features_to_metric(
            ours.features, reference.features, kid_subsets=100, rng_seed=2020, verbose=False,
            kid_subset_size=protocols[f"kid_{split}"]["subset_size"],
        )  # fmt: skip
        expected[f"kid_{split}"] = kid["kernel_inception_distance_mean"]
    from genbench.evaluate.fidelity import chosen

    same = torch.from_numpy(chosen(len(test), 100, 2020, "neighbours, test"))
    both = metric_prc.calculate_precision_recall_full(ours.features, test.features[same], 3)
    expected |= {"precision": both[0], "recall": both[1]}
    for metric, value in expected.items():
        assert values(found)[metric] == pytest.approx(value, rel=1e-6, abs=1e-9), metric


def test_again_does_nothing_and_more_samples_do_not_train(runs, genbench):
    before = {file: file.stat().st_mtime_ns for file in runs.glob("*/*.*")}
    again = genbench("run", "-m", "gaussian", *SMALL, "--out", runs)
    assert again.code == 0 and "gaussian" in again.out
    assert before == {file: file.stat().st_mtime_ns for file in runs.glob("*/*.*")}


def test_the_same_job_twice_gives_the_same_bytes(runs, genbench, tmp_path):
    assert genbench("run", "-m", "vae", "--set", "vae.preset=tiny", *SMALL, "--out", tmp_path / "b").code == 0
    name = records(runs)["vae"]["job"]["id"]
    first, second = (folder / name / "samples.npy" for folder in (runs, tmp_path / "b"))
    assert first.read_bytes() == second.read_bytes()
    assert records(runs)["vae"]["measurements"] == records(tmp_path / "b")["vae"]["measurements"]


def test_a_changed_sampling_option_samples_anew_without_training(runs, genbench, tmp_path, monkeypatch):
    import shutil

    shutil.copytree(runs, tmp_path / "copy")
    curve = next((tmp_path / "copy").glob("gaussian*/progress.jsonl"))
    stamp, old = curve.stat().st_mtime_ns, records(tmp_path / "copy")["gaussian"]
    smaller = [*SMALL[:4], "--samples", "80", *SMALL[6:]]
    assert genbench("run", "-m", "gaussian", *smaller, "--out", tmp_path / "copy").code == 0
    new = records(tmp_path / "copy")["gaussian"]
    assert new["samples"]["count"] == 80 and curve.stat().st_mtime_ns == stamp
    assert new["cost"]["train"] == old["cost"]["train"] and new["job"]["id"] == old["job"]["id"]


@pytest.mark.parametrize("format_", ["text", "markdown", "latex", "csv", "json"])
@pytest.mark.parametrize("layout", ["quality", "cost", "full"])
def test_tables_in_every_format(runs, genbench, format_, layout):
    result = genbench("table", runs, "--format", format_, "--layout", layout)
    assert result.code == 0 and "gaussian" in result.out and "noise" in result.out
    if format_ == "json":
        assert result.json


def test_report_compare_plan_and_sample(runs, genbench, tmp_path):
    assert genbench("report", runs, "-o", "pages").code == 0
    assert "vae" in (tmp_path / "pages" / "index.html").read_text()
    name = {label: runs / record["job"]["id"] for label, record in records(runs).items()}
    result = genbench("compare", name["gaussian"], name["vae"], "--json")
    assert {"job.model", "measurements.bits_per_dim_test"} <= {row["key"] for row in result.json}
    assert genbench("compare", name["vae"], name["vae"]).out.strip() == "no difference"
    rows = genbench("plan", "-m", "gaussian", "-m", "flow", *SMALL, "--out", runs, "--json").json
    assert {row["label"]: row["done"] for row in rows} == {
        "gaussian": True,
        "flow": False,
        "real": True,
        "copies": True,
        "noise": True,
    }
    assert genbench("sample", name["vae"], "-n", "5", "-o", "x.npy").code == 0
    assert np.load(tmp_path / "x.npy").shape == (5, 1, 8, 8)
    assert genbench("sample", name["vae"], "-o", "x.png").code == 0 and (tmp_path / "x.png").stat().st_size > 100


def test_further_images_are_new_and_the_same_each_time(runs, genbench, tmp_path):
    (folder,) = runs.glob("vae-*")
    drawn = []
    for words in ([], ["--seed", 0], ["--seed", 5]):  # the run's own seed is 0
        assert genbench("sample", folder, "-n", "100", *words, "-o", "x.npy").code == 0
        drawn.append(np.load(tmp_path / "x.npy"))
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    known = {image.tobytes() for image in np.load(folder / "samples.npy")}
    assert not known & {image.tobytes() for image in np.concatenate(drawn)}
    assert genbench("sample", folder, "--seed", "-1").code == 2


def test_a_conditional_run_has_labels(genbench, tmp_path):
    result = genbench("run", "-m", "vae", "--set", "vae.preset=tiny", *SMALL, "--conditional", "--json")
    assert result.code == 0, result.err
    found = records(tmp_path / "runs")["vae"]
    labels = np.load(tmp_path / "runs" / found["job"]["id"] / "labels.npy")
    assert found["job"]["conditional"] and sorted(np.bincount(labels, minlength=10)) == [10] * 10


def test_a_suite_names_its_plugins(genbench, tmp_path, gaussian_plugin):
    (tmp_path / "suites").mkdir()
    shutil.copy(gaussian_plugin, tmp_path / "suites" / "mine.py")
    (tmp_path / "suites" / "mine.toml").write_text('plugins = ["mine.py"]\n[[models]]\nname = "mine"\n')
    for words in ([], ["--plugin", tmp_path / "suites" / "mine.py"]):  # which is the same one
        result = genbench("plan", "suites/mine.toml", *SMALL, *words)
        assert result.code == 0 and "to do  mine-digits" in result.out, result.err
        assert "names the plugin suites/mine.py" in result.err


@pytest.mark.slow
def test_a_model_in_a_file_of_its_own(genbench, tmp_path, gaussian_plugin):
    result = genbench("run", "--plugin", gaussian_plugin, "-m", "mine", *SMALL)
    assert result.code == 0 and "mine" in result.out
    result = genbench("check-plugin", gaussian_plugin, "--json")
    assert result.code == 0 and len(result.json) > 10 and all(row["passed"] for row in result.json)
    assert "checking mine on images of 1x8x8" in result.err


CRASH = plugin_source("""
class Raises(Mean):
    name = "raises"
    def sample(self, n, labels=None):
        raise RuntimeError("no <samples> today")

class Dies(Mean):
    name = "dies"
    def sample(self, n, labels=None):
        os.kill(os.getpid(), 9)

class NaNs(Mean):
    name = "nans"
    def loss(self, phase, batch):
        return super().loss(phase, batch) * float("nan")

class Hangs(Mean):
    name = "hangs"
    def sample(self, n, labels=None):
        time.sleep(1000)
""")


def test_failures_are_records_and_rows_and_stop_no_other_job(genbench, tmp_path):
    (tmp_path / "crash.py").write_text(CRASH)
    models = [word for name in ("raises", "dies", "nans", "gaussian") for word in ("-m", name)]
    result = genbench("run", "--plugin", "crash.py", *models, *SMALL)
    found = records(tmp_path / "runs")
    assert result.code == 1
    states = {label: record["status"] for label, record in found.items()}
    assert states == {
        "raises": "failed",
        "dies": "failed",
        "nans": "diverged",
        "gaussian": "complete",
        "real": "complete",
        "copies": "complete",
        "noise": "complete",
    }
    assert "no <samples> today" in found["raises"]["error"]["message"] and found["raises"]["error"]["hook"] == "sample"
    assert "SIGKILL" in found["dies"]["error"]["message"] and "phase 'train'" in found["nans"]["error"]["message"]
    assert found["raises"]["cost"]["train"]["steps"] == 30
    where = {
        label: (found[label]["error"]["hook"], found[label]["error"]["step"]) for label in ("raises", "nans", "dies")
    }
    assert where == {"raises": ("sample", None), "nans": ("train", 0), "dies": ("sample", None)}
    for label, line in {"raises": "in sample", "nans": "in gradients"}.items():
        (run,) = (tmp_path / "runs").glob(f"{label}-*")
        assert line in (run / found[label]["error"]["traceback"]).read_text()
    table = genbench("table", "runs").out
    assert "raises" in table and "diverged" in table
    assert genbench("run", "--plugin", "crash.py", "-m", "raises", *SMALL).code == 1
    assert len(records(tmp_path / "runs")["raises"]["attempts"]) == 1


@pytest.mark.slow
def test_a_job_that_hangs_is_ended(genbench, tmp_path):
    (tmp_path / "crash.py").write_text(CRASH)
    assert genbench("run", "--plugin", "crash.py", "-m", "hangs", *SMALL, "--timeout", "5").code == 1
    assert "--timeout" in records(tmp_path / "runs")["hangs"]["error"]["message"]


def test_errors_as_json(genbench):
    result = genbench("run", "-m", "ddpmm", "--json")
    assert result.code == 2 and result.json["error"]["code"] == "bad-input" and "ddpm" in result.json["error"]["hint"]


def test_a_mistake_of_ours_exits_70(genbench, monkeypatch):
    from genbench.commands import doctor

    monkeypatch.setattr(doctor, "doctor_rows", lambda: 1 / 0)
    result = genbench("doctor")
    assert result.code == 70 and "ZeroDivisionError" in result.err and "please report" in result.err


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [
        (signal.SIGINT, 130, "to resume"),
        (signal.SIGTERM, 143, "to resume"),
        (None, 70, "KeyboardInterrupt"),
    ],
)
def test_a_signal_interrupts_and_what_a_plugin_raises_itself_does_not(genbench, monkeypatch, number, code, told):
    """Also where a library that waits, as Ray does, raises its own in place of the signal's."""
    from genbench.commands import doctor

    def stop():
        if number is None:
            raise KeyboardInterrupt
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None

    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(doctor, "doctor_rows", stop)
    result = genbench("doctor")
    for each, handler in handlers.items():
        signal.signal(each, handler)
    assert result.code == code and told in result.err and ("resume" in result.err) == bool(number)


@pytest.mark.parametrize("command", ["models", "datasets", "extractors", "plugins", "doctor"])
def test_lists(genbench, command):
    text, rows = genbench(command), genbench(command, "--json")
    assert text.code == rows.code == 0 and len(rows.json) > 3
    first = rows.json[0]
    assert str(first.get("name", first.get("what"))) in text.out


def test_help_is_fast_and_imports_no_torch():
    script = """
import sys
from genbench.cli.main import cli
cli.main(['--help'], standalone_mode=False)
print(sorted({'torch', 'pandas', 'matplotlib', 'seaborn', 'numpy', 'pydantic'} & set(sys.modules)))
"""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - begin)
    assert "Which family" in done.stdout and done.stdout.rstrip().endswith("[]")
    assert min(times) < 0.5
