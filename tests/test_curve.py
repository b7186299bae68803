"""Quality against cost: what is kept along a training, how it is scored, and what is said where it is not."""

import itertools
import json
import time
from dataclasses import replace

import pytest
import torch
from finished import run_here
from records_factory import full, make_record, measure, with_curve
from toys import Toy, TwoPhases, killed_at, toy_job, train_toy

from genbench import plots
from genbench.records import checkpoint
from genbench.records.record import CurvePoint
from genbench.records.training_state import CurveState, KeptPoint
from genbench.running import curve
from genbench.support import store
from genbench.support.sealed import write_sealed
from genbench.training import loop
from genbench.training.keeper import FIRST_SHARE, Keeper, shares
from genbench.training.loop import Trainer

SUITE = """
budget = "40steps"
samples = 100
likelihood_images = 4
datasets = ["digits"]
curve = 4

[[models]]
name = "gaussian"
tuning_trials = 3

[[models]]
name = "ldm"
preset = "tiny"
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory, session_cache):
    """A suite with a curve, run by the command itself."""
    folder = tmp_path_factory.mktemp("curve")
    (folder / "suite.toml").write_text(SUITE)
    run_here("run", "suite.toml", "--device", "cpu", at=folder)
    return folder


def record(folder, label):
    (file,) = folder.glob(f"runs/{label}-*/record.json")
    return json.loads(file.read_text())


def fid(measurements):
    (found,) = [m for m in measurements if m["metric"] == "fid_test"]
    return found["value"], found["protocol"]


# The grid


def test_the_grid_is_logarithmic_and_ends_at_the_budget():
    grid = shares(5)
    assert grid[0] == FIRST_SHARE and grid[-1] == 1
    assert [b / a for a, b in itertools.pairwise(grid)] == pytest.approx([100**0.25] * 4)
    assert (shares(0), shares(1)) == ([], [1.0])


# What is kept


def kept(folder, model=Toy, **changes):
    """The kept weights by point, and what the checkpoint says of them."""
    run = toy_job(folder, model, **changes).folder
    about = checkpoint.read_state(run / "checkpoint").curve.kept
    names = [point.point for point in about if not point.waiting]
    assert {path.name for path in run.glob("curve/*")} == {str(name) for name in names}
    return {name: checkpoint.read(run / "curve" / str(name))[0]["ema"] for name in names}, about


def test_the_averaged_weights_of_their_step_are_kept(tmp_path, digits, monkeypatch):
    averages, log = {}, Trainer.log

    def watching(self):
        log(self)
        averages[self.meter.steps] = (self.ema.model.mean.clone(), self.model.mean.clone())

    monkeypatch.setattr(Trainer, "log", watching)
    train_toy(tmp_path, digits, budget="100steps", curve=3)
    weights, about = kept(tmp_path, budget="100steps", curve=3)
    assert [(point.point, point.steps, point.share) for point in about] == [(1, 1, 0.01), (2, 10, 0.1)]
    for point in about:
        average, raw = averages[point.steps]
        assert torch.equal(weights[point.point]["mean"], average) and not torch.equal(average, raw)
    assert [point.images for point in about] == [8, 80]


def test_points_of_one_step_are_one_point(tmp_path, digits):
    train_toy(tmp_path, digits, budget="4steps", curve=9)
    _, about = kept(tmp_path, budget="4steps", curve=9)
    assert [(point.point, point.steps) for point in about] == [(6, 1), (7, 2), (8, 3)]


def test_a_model_whose_phases_have_not_all_begun_is_not_kept(tmp_path, digits):
    train_toy(tmp_path, digits, TwoPhases, curve=4)
    weights, about = kept(tmp_path, TwoPhases, curve=4)
    assert [point.waiting for point in about] == [["second"], ["second"]] and not weights
    train_toy(tmp_path, digits, TwoPhases, curve=20, budget="100steps")
    weights, about = kept(tmp_path, TwoPhases, curve=20, budget="100steps")
    begun = [point.steps for point in about if not point.waiting]
    assert begun and min(begun) > 50 and len(begun) == len(weights)


class Judged(TwoPhases):
    """Its second phase trains only for the sake of training."""

    def phases(self):
        first, second = super().phases()
        return [replace(first, span=(0.0, 1.0)), replace(second, auxiliary=True)]


class Continued(TwoPhases):
    """One optimizer in two phases, one after the other."""

    def phases(self):
        first, second = super().phases()
        return [first, replace(first, name="later", span=(0.5, 1.0)), replace(second, span=(0.0, 1.0))]

    def loss(self, phase, batch):
        return super().loss("first" if phase == "later" else phase, batch)


@pytest.mark.parametrize("model", [Judged, Continued])
def test_a_model_that_can_be_scored_before_all_phases_have_begun_is_kept(tmp_path, digits, model):
    train_toy(tmp_path, digits, model, curve=4)
    weights, about = kept(tmp_path, model, curve=4)
    assert len(weights) == len(about) > 1 and not any(point.waiting for point in about)


def test_keeping_is_outside_the_clock_and_changes_no_weight(tmp_path, digits, monkeypatch):
    plain, _ = train_toy(tmp_path / "plain", digits)
    write = checkpoint.write

    def slow(folder, *rest):
        if folder.parent.name == "curve":
            time.sleep(1.0)
        write(folder, *rest)

    monkeypatch.setattr(checkpoint, "write", slow)
    began = time.perf_counter()
    trained, meter = train_toy(tmp_path / "curve", digits, curve=3)
    assert time.perf_counter() - began > 2 > 1 > meter.train_seconds
    assert torch.equal(trained.mean, plain.mean)


def test_weights_that_the_checkpoint_does_not_know_are_removed(tmp_path):
    for name in ("1", "2", "3"):
        (tmp_path / name).mkdir()
    keeper = Keeper(tmp_path, 9)
    cost = dict.fromkeys(("share", "seconds", "device_seconds", "images", "steps", "flops"), 0)
    keeper.restore(CurveState(count=4, passed=2, kept=[KeptPoint(point=point, **cost) for point in (1, 2)]))
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2"} and keeper.state().count == 4
    assert not keeper.is_due(shares(4)[2] - 0.01) and keeper.is_due(shares(4)[2]) and not keeper.is_due(1.0)
    keeper.restore(None)
    assert not list(tmp_path.iterdir()) and keeper.is_due(FIRST_SHARE)


@pytest.mark.parametrize("model", [Toy, TwoPhases])
@pytest.mark.parametrize("every", [-1.0, 1e9])
def test_a_resumed_training_keeps_the_same(tmp_path, digits, monkeypatch, model, every):
    common = {"budget": "60steps", "curve": 12}
    train_toy(tmp_path / "whole", digits, model, **common)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", every)
    for kill in (2, 7, 47):
        with killed_at(kill, monkeypatch):
            train_toy(tmp_path / "killed", digits, model, **common)
    train_toy(tmp_path / "killed", digits, model, **common)
    (whole, first), (resumed, second) = (kept(tmp_path / name, model, **common) for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[n][key], resumed[n][key]) for n in whole for key in whole[n])
    timeless = [
        [point.model_dump(exclude={"seconds", "device_seconds"}) for point in about] for about in (first, second)
    ]
    assert timeless[0] == timeless[1] and len(timeless[0]) > 5


# How it is scored


def test_every_point_is_scored_under_the_protocol_of_the_run(runs):
    found = record(runs, "gaussian")
    value, protocol = fid(found["measurements"])
    points = found["curve"]
    assert [point["steps"] for point in points] == [1, 2, 9, 40]
    assert [point["share"] for point in points] == [0.025, 0.05, 0.225, 1.0]
    assert all(fid(point["measurements"])[1] == protocol for point in points)
    assert fid(points[-1]["measurements"])[0] == value
    assert len({fid(point["measurements"])[0] for point in points}) == 4
    for key in ("seconds", "device_seconds", "images", "steps"):
        costs = [point[key] for point in points]
        assert costs == sorted(costs) and costs[0] < costs[-1] == found["cost"]["train"][key]
    assert found["cost"]["evaluate"]["curve_seconds"] > 0


def test_what_cannot_be_sampled_yet_is_a_point_that_says_so(runs):
    points = record(runs, "ldm")["curve"]
    assert [point["status"] for point in points] == ["not_applicable"] * 3 + ["ok"]
    assert "diffusion had not begun" in points[0]["note"] and points[0]["flops"] > 0 and not points[0]["measurements"]


def test_a_curve_changes_neither_the_job_nor_its_samples(runs, genbench, tmp_path):
    plain = SUITE.replace("curve = 4", "")
    (tmp_path / "suite.toml").write_text(plain[: plain.index('[[models]]\nname = "ldm"')])
    assert genbench("run", "suite.toml", "--device", "cpu").code == 0
    name = record(runs, "gaussian")["job"]["id"]
    first, second = (folder / "runs" / name / "samples.npy" for folder in (runs, tmp_path))
    assert first.read_bytes() == second.read_bytes()
    assert record(runs, "gaussian")["measurements"] == record(tmp_path, "gaussian")["measurements"]
    weights = second.parent / "checkpoint" / "latest" / "ema.safetensors"
    stamp = weights.stat().st_mtime_ns
    (row, *_) = genbench("plan", "suite.toml", "--device", "cpu", "--curve", "3", "--json").json
    assert not row["done"] and "began without one" in row["note"]
    assert genbench("run", "suite.toml", "--device", "cpu", "--curve", "3").code == 0
    points = record(tmp_path, "gaussian")["curve"]
    assert [point["status"] for point in points] == ["not_applicable"] * 3 and "--curve" in points[0]["note"]
    (row, *_) = genbench("plan", "suite.toml", "--device", "cpu", "--curve", "3", "--json").json
    assert row["done"] and stamp <= weights.stat().st_mtime_ns


def test_points_are_scored_once_and_a_broken_one_leads_to_its_way_out(runs, genbench, tmp_path):
    import shutil

    shutil.copytree(runs, tmp_path / "copy")
    (run,) = (tmp_path / "copy").glob("runs/gaussian-*")
    before, scores = record(tmp_path / "copy", "gaussian"), run / "curve" / "2" / "scores.json"
    stamp = scores.stat().st_mtime_ns
    (run / "record.json").unlink()
    (run / "curve" / "2" / store.DRAWN / "0").mkdir(parents=True)  # left by a kill between scores and removal
    (run / "curve" / "1" / "scores.json").unlink()
    arguments = ["-d", "digits", "-m", "gaussian", "--budget", "40steps", "--samples", 100, "--likelihood-images", 4]
    assert genbench("run", *arguments, "--device", "cpu", "--out", "copy/runs").code == 0
    after = record(tmp_path / "copy", "gaussian")
    assert scores.stat().st_mtime_ns == stamp and after["curve"] == before["curve"]
    assert not list(run.rglob(store.DRAWN)) and set(before["protocols"]) == set(after["protocols"])
    for name in ("record.json", "curve/1/scores.json"):
        (run / name).unlink()
    (run / "curve" / "1" / "ema.safetensors").write_bytes(b"no weights")
    result = genbench("run", *arguments, "--device", "cpu", "--out", "copy/runs")
    assert result.code == 3 and "ema.safetensors" in result.err and "rm -rf" in result.err


CORNERS = """
from genbench import hookimpl
from genbench.evaluate.extractor import Extractor

@hookimpl
def register_extractors(register):
    register("corners", lambda: Extractor("corners", corners, 2, 0, {"layer": "pixels"}))

def corners(levels):
    return levels.flatten(1)[:, [18, 45]].float() / 255, None
"""


def test_a_curve_in_another_extractor_joins_the_first(runs, genbench, tmp_path):
    import shutil

    shutil.copytree(runs, tmp_path / "copy")
    (tmp_path / "corners.py").write_text(CORNERS)
    before = record(tmp_path / "copy", "gaussian")
    arguments = ["-d", "digits", "-m", "gaussian", "--budget", "40steps", "--samples", 100, "--likelihood-images", 4]
    own = ["--plugin", "corners.py", "--extractor", "corners", "--device", "cpu", "--out", "copy/runs"]
    assert genbench("run", *arguments, *own).code == 0
    after = record(tmp_path / "copy", "gaussian")
    for old, new in zip(before["curve"], after["curve"], strict=True):
        assert all(m in new["measurements"] for m in old["measurements"])
        fids = [m for m in new["measurements"] if m["metric"] == "fid_test"]
        names = [after["protocols"][m["protocol"]]["extractor"]["name"] for m in fids]
        assert sorted(names) == ["corners", "digits-classifier-v1"]


def test_scores_in_another_extractor_or_another_version_of_one_are_not_reused(tmp_path):
    old = toy_job(tmp_path, extractor_stamps={"inception": "1"})
    write_sealed(tmp_path / "scores.json", {"key": curve._key(old), "measurements": [], "protocols": {}})
    assert curve._stored(tmp_path, old) == ([], {})
    for stamps in ({"inception": "2"}, {"inception": "1", "vgg": "1"}):
        assert curve._stored(tmp_path, toy_job(tmp_path, extractor_stamps=stamps)) is None


def test_a_point_is_measured_or_says_why():
    with pytest.raises(ValueError, match="status and a note"):
        CurvePoint(share=0.5)
    with pytest.raises(ValueError, match="status and a note"):
        CurvePoint(share=0.5, status="failed", measurements=[measure("fid_test", 1.0, {})])


@pytest.mark.parametrize("key", ["curve = 101", "curve = -1", 'curve = "all"', "tuning_trials = -1"])
def test_bad_suites_are_named(genbench, tmp_path, key):
    table = '[[models]]\nname = "gaussian"\n'
    (tmp_path / "suite.toml").write_text(f"{table}{key}\n" if key.startswith("tuning") else f"{key}\n{table}")
    result = genbench("plan", "suite.toml", "-d", "digits")
    assert result.code == 2 and key.split()[0] in result.err
    assert genbench("plan", "-m", "gaussian", "--curve", "0").code == 2


# What is shown


def drawn_lines(axes):
    """Lines that join points; the caps of error bars join nothing."""
    return [line for line in axes.lines if line.get_linestyle() == "-"]


@pytest.mark.parametrize(("unit", "last"), [("device_seconds", 60), ("flops", 1e14)])
def test_plots_join_the_points_of_each_seed(unit, last):
    records = [with_curve("ddpm"), with_curve("ddpm", 1, (90.0, 30.0, 22.0)), make_record("gan")]
    (axes,) = plots.fid_against_training(full(records), unit).axes
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in drawn_lines(axes)]
    assert [ys for _, ys in lines] == [[80.0, 40.0, 20.0], [90.0, 30.0, 22.0]]
    assert lines[0][0] == pytest.approx([last / 100, last / 10, last])
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert not drawn_lines(plots.fid_against_sampling(full(records)).axes[0])


def test_plots_name_the_points_that_are_missing_and_draw_no_other_protocol():
    whole = with_curve("ldm")
    missing = CurvePoint(share=0.01, status="not_applicable", note="cannot be sampled: diffusion had not begun")
    other = whole.curve[1].model_copy(update={"measurements": [measure("fid_test", 1.0, {}, protocol={"samples": 7})]})
    record = whole.model_copy(update={"curve": [missing, other, *whole.curve[1:]]})
    figure = plots.fid_against_training(full([record]))
    assert [list(line.get_ydata()) for line in drawn_lines(figure.axes[0])] == [[40.0, 20.0]]
    assert "ldm's curve at 1 % of the budget (cannot be sampled: diffusion had not begun)" in figure.get_label()


def test_tables_and_pages_show_the_curve_and_the_ledger(runs, genbench, tmp_path):
    text = genbench("table", runs / "runs", "--layout", "cost").out.replace("\n", " ")
    assert "Configurations tried beforehand: gaussian 3; not reported for ldm." in text
    assert "samples/s one at a time and at the best batch size tried: ldm" in text
    assert "Energy: " in text and "no best checkpoint" in text and "no factor given" in text
    tables = genbench("table", runs / "runs", "--layout", "full", "--format", "json").json["tables"]
    cells = {row["name"]: row["cells"] for row in tables[0]["rows"]}
    assert cells["gaussian"]["tuning_trials"]["value"] == 3 and cells["ldm"]["tuning_trials"]["note"] == "not reported"
    assert 0 < cells["ldm"]["images_per_second_1"]["value"] <= cells["ldm"]["images_per_second_best"]["value"]
    assert genbench("report", runs / "runs", "-o", "pages").code == 0
    assert record(runs, "gaussian")["capabilities"] == ["likelihood"]
    assert {"likelihood", "bound over time", "conditional"} <= set(record(runs, "ldm")["capabilities"])
    assert '<th scope="col">bound over time</th>' in (tmp_path / "pages" / "index.html").read_text()
    (page,) = tmp_path.glob("pages/runs/ldm*.html")
    assert "diffusion had not begun" in page.read_text()
