"""Sweeps, and one training for all rows that differ only in sampling: killed, resumed, failed, moved and added to."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from finished import SMALL, essence, record_of, run_here, run_of, times
from plugin_sources import plugin_source
from toys import Toy, toy_job, train_toy

from genbench import plots
from genbench.commands.sample import draw_from_run
from genbench.commands.verify import verify_run
from genbench.evaluate.parts import spared_seconds
from genbench.executors.schedule import Pool, forecast_in_turn
from genbench.planning.config import make_experiment, parse_sweep
from genbench.planning.earlier import Earlier
from genbench.planning.estimate import Estimate
from genbench.planning.needs import FLOPS_PER_SECOND, need
from genbench.planning.sharing import trainers
from genbench.planning.space import CHECKPOINTS, COPIES, job_bytes
from genbench.records import checkpoint
from genbench.records.job import Runtime
from genbench.records.record_files import load_records
from genbench.records.shared_training import finished_training, siblings, trained_by
from genbench.records.task import Context, Task
from genbench.support import faults, store
from genbench.support.errors import BadInput, Busy
from genbench.support.faults import InjectedFault
from genbench.support.lock import locked
from genbench.support.text import number
from genbench.tables.build import make_tables
from genbench.tables.panels import panels

SWEPT = plugin_source("""
class Swept(Mean):
    name = "swept"
    class Config(Model.Config):
        steps: int = field(3, "sample", "network evaluations", ge=1)
        width: int = field(1, "train", "changes the training", ge=1)
    @property
    def nfe(self):
        return self.config.steps
    def sample(self, n, labels=None):
        return self.mean + torch.randn(n, *self.data.shape) / (2 * self.config.steps)
""")
BROKEN = SWEPT.replace(
    "class Swept(Mean):",
    """class Swept(Mean):
    def loss(self, phase, batch):
        raise ArithmeticError("no loss today")""",
)


@pytest.fixture(autouse=True)
def disarmed():
    yield
    faults.arm("")
    spared_seconds()


# What is said


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("ddpm.steps=5,10,25", (5, 10, 25)),
        ("ddpm.steps=5,", (5,)),
        ("ddpm.sampler=ddim, ddpm", ("ddim", "ddpm")),
        ("ddpm.eta=0,0.5,1e-3", (0, 0.5, 1e-3)),
        ("ddpm.widths=[1, 2],[2]", ([1, 2], [2])),
        ("ddpm-v1.2.guidance='a',b", ("a", "b")),
    ],
)
def test_a_sweep_has_values_as_settings_have_them(text, values):
    assert parse_sweep(text)[1:] == (text.split("=")[0].rpartition(".")[2], values)


@pytest.mark.parametrize("text", ["", "ddpm.steps", "steps=1", "ddpm.steps=", "ddpm.steps=,", "ddpm.steps=5,,7"])
def test_a_sweep_without_values_or_model_shows_the_form(text):
    with pytest.raises(BadInput, match="--sweep") as problem:
        parse_sweep(text)
    assert "MODEL.KEY=V,V,V" in problem.value.hint


MODELS = '[[models]]\nname = "ddpm"\nconfig = { eta = 1 }\n'


def rows(tmp_path, text, *sweeps, settings=()):
    (tmp_path / "suite.toml").write_text(text)
    found = make_experiment(tmp_path / "suite.toml", {}, [], settings, sweeps).models
    assert not any(row.sweep for row in found)
    return {row.label: row.config for row in found}


def test_a_row_for_each_value_and_each_combination(tmp_path):
    assert rows(tmp_path, MODELS, "ddpm.steps=5,10") == {
        "ddpm-steps5": {"eta": 1, "steps": 5},
        "ddpm-steps10": {"eta": 1, "steps": 10},
    }
    assert list(rows(tmp_path, MODELS, "ddpm.steps=5,10", "ddpm.eta=0,0.5")) == [
        "ddpm-steps5-eta0", "ddpm-steps5-eta0.5", "ddpm-steps10-eta0", "ddpm-steps10-eta0.5",
    ]  # fmt: skip
    words = rows(tmp_path, MODELS, "ddpm.sampler=ddim,a b", "ddpm.guidance=-1.0,1e20", "ddpm.on=[1, 2],true")
    assert "ddpm-sampler-ddim-guidance-1-on1-2" in words and "ddpm-sampler-a-b-guidance1e20-on-true" in words


def test_a_suite_can_sweep_and_the_command_line_overrides_it(tmp_path):
    text = f"{MODELS}sweep = {{ steps = [5, 10], preset = ['tiny'] }}\n"
    assert list(rows(tmp_path, text)) == ["ddpm-steps5-preset-tiny", "ddpm-steps10-preset-tiny"]
    assert list(rows(tmp_path, text, "ddpm.steps=7")) == ["ddpm-steps7-preset-tiny"]
    assert rows(tmp_path, text, settings=["ddpm.steps=7"]) == {"ddpm-preset-tiny": {"eta": 1, "steps": 7}}


def test_the_name_of_a_model_means_all_of_its_labels(tmp_path):
    text = "".join(f'[[models]]\nname = "ddpm"\nlabel = "{label}"\n' for label in ("a", "b"))
    assert list(rows(tmp_path, text, "ddpm.steps=1,2")) == ["a-steps1", "a-steps2", "b-steps1", "b-steps2"]
    assert list(rows(tmp_path, text, "b.steps=1,2")) == ["a", "b-steps1", "b-steps2"]


@pytest.mark.parametrize(
    ("text", "sweeps", "settings", "told"),
    [
        (MODELS, ["vae.steps=1"], [], "no model 'vae' here"),
        (MODELS, ["ddpm.steps=5,5.0"], [], "sweep of steps: 5, 5.0: a value is given twice"),
        (MODELS, ["ddpm.steps=5", "ddpm.steps=6"], [], "steps of 'ddpm' is given twice"),
        (MODELS, ["ddpm.steps=5"], ["ddpm.steps=6"], "steps of 'ddpm' is given twice"),
        (f"{MODELS}sweep = {{ steps = [] }}\n", [], [], "suite.toml:4: models.0.sweep: steps: no values"),
        (f"{MODELS}sweep = {{ steps = 5 }}\n", [], [], "suite.toml:4: models.0.sweep.steps"),
        (f'{MODELS}[[models]]\nname = "ddpm"\nlabel = "ddpm-steps5"\n', ["ddpm.steps=5"], [], "ddpm-steps5 is given"),
        (MODELS, [f"ddpm.steps={'9' * 70}"], [], "is not a valid name"),
        (MODELS, [f"ddpm.{key}={','.join(map(str, range(11)))}" for key in "abc"], [], "more than 1,000 rows"),
    ],
)
def test_a_wrong_sweep_is_named(tmp_path, text, sweeps, settings, told):
    with pytest.raises(BadInput) as problem:
        rows(tmp_path, text, *sweeps, settings=settings)
    assert told in problem.value.message


# Who trains


def test_one_of_the_rows_trains_and_first_the_one_that_has_begun(tmp_path):
    plain, other, third = (toy_job(tmp_path, label=label, sample_config={"steps": n}) for n, label in enumerate("abc"))
    seeded, wide = toy_job(tmp_path, label="d", seed=1), toy_job(tmp_path, label="e", train_config={"width": 2})
    jobs = [plain, other, seeded, third, wide]
    assert trainers(jobs) == {other.id: plain, third.id: plain}
    (other.folder / "checkpoint").mkdir(parents=True)
    assert trainers(jobs) == {plain.id: other, third.id: other}
    absent = [toy_job(tmp_path, label=label, dataset=label, dataset_digest="") for label in "ab"]
    assert trainers(absent) == {}  # nobody knows whether their images are the same


# What is taken over


def trained(folder, digits, **changes):
    """The job of a row that has trained, as `run` leaves it."""
    job = toy_job(folder, **changes)
    model, meter = train_toy(folder, digits, **changes)
    tensors, state = checkpoint.load(job.folder / "checkpoint")
    state = state.model_copy(update={"finished": True, "meter": meter.state()})
    checkpoint.save(job.folder / "checkpoint", {"model": tensors["model"], "ema": model.state_dict()}, state)
    store.write_json(job.folder / "job.json", job.model_dump(mode="json"))
    return job


def left_by(folder):
    """All files of a run folder but the lock and job."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", "job.json")
    }


def test_a_row_takes_over_weights_curve_log_and_cost(tmp_path, digits):
    first = trained(tmp_path, digits, label="first", curve=4)
    second = toy_job(tmp_path, label="second", sample_config={"steps": 9}, curve=4)
    assert trained_by(first) == trained_by(second) == first.id and list(siblings(second)) == [first.folder]
    tensors, state = finished_training(second)
    own = finished_training(first)
    assert list(tensors) == ["ema"] and state == own[1] and state.job == first.id and state.meter.seconds > 0
    assert all(torch.equal(value, own[0]["ema"][name]) for name, value in tensors["ema"].items())
    whole, taken = left_by(first.folder), left_by(second.folder)
    points = {name for name in whole if name.startswith("curve/")}
    assert len(points) > 2 and points | {"progress.jsonl"} == {n for n in taken if not n.startswith("checkpoint/")}
    assert all(taken[name] == whole[name] for name in (*points, "progress.jsonl"))
    shutil.rmtree(first.folder)
    store.write_json(second.folder / "job.json", second.model_dump(mode="json"))
    assert finished_training(second)[1] == state and trained_by(toy_job(tmp_path, label="third")) == first.id


@pytest.mark.parametrize("point", ["share.copied", "checkpoint.begin", "checkpoint.written", "checkpoint.end",
                                   "store.written", "store.renamed", "store.folder_renamed"])  # fmt: skip
def test_a_take_over_that_is_killed_is_done_again(tmp_path, digits, point):
    trained(tmp_path, digits, label="first", curve=4)
    whole, killed = toy_job(tmp_path, label="whole", curve=4), toy_job(tmp_path, label="killed", curve=4)
    finished_training(whole)
    train_toy(tmp_path, digits, label="killed", curve=2)  # it had begun a training of its own
    faults.arm(f"{point}:raise")
    with pytest.raises(InjectedFault):
        finished_training(killed)
    store.sweep(killed.folder)
    checkpoint.settle(killed.folder / "checkpoint")
    finished_training(killed)
    own = {name: content for name, content in left_by(killed.folder).items() if "/previous/" not in name}
    assert own == left_by(whole.folder)


def test_damaged_weights_are_not_taken_over(tmp_path, digits):
    first = trained(tmp_path, digits, label="first")
    weights = first.folder / "checkpoint" / "latest" / "ema.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    second = toy_job(tmp_path, label="second")
    assert finished_training(second) is None and not (second.folder / "checkpoint").exists()
    trained(tmp_path, digits, label="zeroth")
    assert finished_training(second)[1].job.startswith("zeroth-")


def test_another_training_is_not_taken_over(tmp_path, digits):
    trained(tmp_path, digits, label="first")
    for change in ({"seed": 1}, {"train_config": {"batch_size": 9}}, {"budget": "21steps"}):
        assert finished_training(toy_job(tmp_path, label="second", **change)) is None
    file = next(tmp_path.glob("first-*")) / "job.json"
    second = toy_job(tmp_path, label="second")
    store.write_json(file, store.read_json(file) | {"seed": 5})  # the same name, another job
    assert finished_training(second) is None
    file.write_text("{")
    assert finished_training(second) is None


def test_a_row_does_not_train_beside_another_that_trains(tmp_path, digits):
    first, second = toy_job(tmp_path, label="first"), toy_job(tmp_path, label="second")
    train_toy(tmp_path, digits, label="first")
    store.write_json(first.folder / "job.json", first.model_dump(mode="json"))
    with locked(first.folder), pytest.raises(Busy, match="its shared training is in use"):
        finished_training(second)
    assert finished_training(second) is None


# What it costs


def test_what_is_taken_over_costs_no_training(tmp_path):
    past = Earlier(3, 10.0, 1.0, None, 0.5, 2.0, None, None, train_seconds=7.0, sample_seconds=10.0, seconds=19.0)
    about = Estimate(1, train_steps=5, train_flops=1e11, sample_flops=1e10, v100_days=1.0, earlier=past)
    left = about.without_training()
    assert (left.train_steps, left.train_flops, left.v100_days, left.sample_flops) == (0, 0, 0, 1e10)
    assert (left.earlier.seconds, about.earlier.seconds) == (12.0, 19.0)
    timed = toy_job(tmp_path, budget="9s", runtime=Runtime(out=tmp_path, threads=1))
    unknown = Estimate(1, sample_flops=1e10, reasons={"train_flops": "unknown"})
    seconds = 1e10 / FLOPS_PER_SECOND["cpu"]
    assert need(timed, unknown.without_training()).seconds == seconds and not unknown.without_training().reasons
    assert need(timed, Estimate(1, train_flops=1.0, sample_flops=1e10)).seconds == 9 + seconds


def test_a_row_that_takes_over_needs_room_for_one_copy(tmp_path, digits, monkeypatch):
    monkeypatch.setattr("genbench.planning.space.build_job", lambda *_: Toy(digits.spec(False), Toy.Config()))
    job = toy_job(tmp_path, curve=2)
    weights = 4 * (64 + 1)
    spared = job_bytes(job, None, digits, True) - job_bytes(job, None, digits, False)
    assert spared == weights * (COPIES * CHECKPOINTS - 1)


def test_a_forecast_in_turn_begins_when_all_before_have_ended():
    def task(name, seconds, memory=1):
        return Task(name, {}, {}, Context((), ""), 1, memory_bytes=memory, seconds=seconds)

    pools = [Pool(("cpu",), slots=2, capacity=10)]
    found = forecast_in_turn([[task("a", 9.0), task("b", 5.0, 4)], [task("c", 2.0, 3), task("d", 1.0, 3)]], pools)
    assert found.begins == {"a": 0, "b": 0, "c": 9, "d": 9} and found.seconds == 11
    assert found.peak_bytes == {("cpu",): 6}


# Through the command


def words(*sweep, budget="20steps"):
    values = SMALL.copy()
    values[values.index("--budget") + 1] = budget
    return ["run", "--plugin", "swept.py", "-m", "swept", *values, *(w for text in sweep for w in ("--sweep", text))]


@pytest.fixture(scope="module")
def timed(tmp_path_factory, session_cache):
    """A folder with the plugin and its rows of three samplers, under a budget in seconds, two jobs at a time."""
    folder = tmp_path_factory.mktemp("timed")
    (folder / "swept.py").write_text(SWEPT)
    run_here(*words("swept.steps=2,8", budget="1s"), "--jobs", 2, at=folder)
    return folder


@pytest.fixture
def rows_of(timed, tmp_path):
    """A copy of its runs, to change."""
    shutil.copy(timed / "swept.py", tmp_path)
    return shutil.copytree(timed / "runs", tmp_path / "runs")


def weights_of(folder):
    return json.loads((folder / "samples.json").read_text())["weights"]


@pytest.mark.slow
def test_rows_under_a_budget_in_seconds_are_samplers_of_one_network(timed):
    few, many = (run_of(timed / "runs", f"swept-steps{n}") for n in (2, 8))
    assert weights_of(few) == weights_of(many) != ""
    assert (few / "progress.jsonl").read_bytes() == (many / "progress.jsonl").read_bytes()
    first, second = record_of(few), record_of(many)
    assert (first["cost"]["train"].pop("trained_by"), second["cost"]["train"].pop("trained_by")) == ("", few.name)
    assert first["cost"]["train"] == second["cost"]["train"] and first["cost"]["train"]["seconds"] >= 1
    assert [record["cost"]["sample"]["nfe"] for record in (first, second)] == [2, 8]
    assert first["samples"]["config"] == {"steps": 2} and second["samples"]["config"] == {"steps": 8}
    assert (few / "samples.npy").read_bytes() != (many / "samples.npy").read_bytes()
    assert {verify_run(folder).state for folder in (few, many)} == {"ok"}


def test_tables_and_plots_show_the_rows_and_join_those_of_one_training(timed):
    records = [record for record in load_records([timed / "runs"]) if record.job.label not in ("noise", "copies")]
    (table,) = make_tables(records, "full")
    (nfe,) = [column for column in table.columns if column.key.metric == "nfe"]
    shown = {row.name: row.cells[nfe.key].value for row in table.rows if row.kind == "model"}
    assert shown == {"swept-steps2": 2, "swept-steps8": 8}
    assert "swept-steps8: the weights of another row" in " ".join(table.footnotes)
    (fid,) = panels([table], "fid_test")
    points = sorted((shown[row.name], fid.cell(row).value) for row in fid.rows)
    figure = plots.ALL["fid-evaluations"].draw([table], plots.palette([table]))
    assert thin_lines(figure) == [points]
    low, high = sorted(value for _, value in points)
    assert names_in(figure)[0] == f"swept  {number(low, 'fid')} to {number(high, 'fid')}"
    apart = [record.model_copy(deep=True) for record in records]
    for record in apart:
        if record.cost.train:
            record.cost.train.trained_by = ""
    separate = plots.fid_against_evaluations(make_tables(apart, "full"))
    assert thin_lines(separate) == []
    assert sorted(name.split()[0] for name in names_in(separate)[:2]) == ["swept-steps2", "swept-steps8"]
    assert thin_lines(plots.fid_against_sampling([table])) == []


def test_a_reference_row_far_above_all_models_is_told_and_leaves_them_room(timed):
    records = [record for record in load_records([timed / "runs"]) if record.job.label != "copies"]
    for record in records:
        for each in record.measurements:
            if record.job.label == "noise" and each.metric == "fid_test":
                each.value *= 1000
    figure = plots.fid_against_evaluations(make_tables(records, "full"))
    (noise,) = [name for name in names_in(figure) if name.startswith("noise")]
    assert noise.endswith("(above)")
    assert figure.axes[0].get_ylim()[1] < 10 * max(value for _, value in thin_lines(figure)[0])


def names_in(figure):
    """What the first panel's legend says."""
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def thin_lines(figure):
    """The points of each line of the first panel that joins several, as pairs."""
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 1]
    return [list(zip(*line.get_data())) for line in lines]


def test_again_nothing_is_done_and_a_later_row_trains_nothing(rows_of, genbench, tmp_path):
    before = times(rows_of)
    assert genbench(*words("swept.steps=2,8", budget="1s"), "--jobs", 2).code == 0 and times(rows_of) == before
    few = run_of(rows_of, "swept-steps2")
    expected, log = weights_of(few), (few / "progress.jsonl").read_bytes()
    shutil.rmtree(few)
    plan = genbench("plan", *words("swept.steps=8,30", budget="1s")[1:], "--jobs", 2)
    assert f"its training is done, by {few.name}" in " ".join(plan.out.split())
    assert genbench(*words("swept.steps=8,30", budget="1s"), "--jobs", 2).code == 0
    late = run_of(rows_of, "swept-steps30")
    assert weights_of(late) == expected and (late / "progress.jsonl").read_bytes() == log
    assert record_of(late)["cost"]["train"]["trained_by"] == few.name and verify_run(late).state == "ok"
    picture = draw_from_run(late, 4, None, None, tmp_path / "few.npy", (str(tmp_path / "swept.py"),))
    assert picture.exists()


def test_the_plan_says_who_trains_and_counts_it_once(genbench, tmp_path):
    (tmp_path / "swept.py").write_text(SWEPT)
    asked = [*words("swept.width=1,2", "swept.steps=2,8")[1:], "--seeds", 2]
    text, rows = " ".join(genbench("plan", *asked).out.split()), genbench("plan", *asked, "--json").json
    assert text.count("shares the training of swept-width1-steps2") == 2  # a seed each
    found = {(row["label"], row["seed"]): row for row in rows if row["label"].startswith("swept")}
    assert len(found) == 8
    for (label, seed), row in found.items():
        trainer = found[f"{label.split('-steps')[0]}-steps2", seed]
        trains = row is trainer
        assert row["trained_by"] == (None if trains else trainer["id"])
        assert (row["estimate"]["train_steps"], row["estimate"]["sample_nfe"]) == (
            20 * trains, int(label.split("steps")[1])
        )  # fmt: skip
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_row_killed_as_it_takes_weights_over_is_that_of_an_undisturbed_run(genbench, tmp_path):
    (tmp_path / "swept.py").write_text(SWEPT)
    run = [*words("swept.steps=2,8"), "--jobs", "2", "--out"]
    assert genbench(*run, "whole").code == 0
    environment = {**os.environ, "GENBENCH_FAULT": "share.copied:kill9"}
    command = [sys.executable, "-m", "genbench", *run, "killed"]
    assert subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True).returncode == 1
    assert genbench(*run, "killed").code == 0
    assert essence(tmp_path / "killed") == essence(tmp_path / "whole")


@pytest.mark.slow
def test_a_command_killed_between_the_rows_goes_on_from_the_weights(tmp_path, session_cache):
    (tmp_path / "swept.py").write_text(SWEPT)
    command = [sys.executable, "-m", "genbench", *words("swept.steps=2,8", budget="1s")]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob("runs/swept-steps2-*/record.json")):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    few = run_of(tmp_path / "runs", "swept-steps2")
    record = (few / "record.json").read_bytes()
    time.sleep(0.5)  # the child of the killed one ends with it
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    assert weights_of(few) == weights_of(run_of(tmp_path / "runs", "swept-steps8"))
    assert (few / "record.json").read_bytes() == record


def test_a_training_that_fails_fails_every_row_with_its_reason(genbench, tmp_path):
    (tmp_path / "swept.py").write_text(BROKEN)
    result = genbench(*words("swept.steps=2,8"))
    assert result.code == 1
    first, second = (record_of(run_of(tmp_path / "runs", f"swept-steps{n}")) for n in (2, 8))
    assert [record["status"] for record in (first, second)] == ["failed", "failed"]
    assert second["error"]["message"] == f"the shared training of {first['job']['id']}: no loss today"
    assert second["error"]["hook"] == "train" and f"{second['job']['id']}: failed" in result.err


def test_the_folder_of_a_row_in_use_keeps_the_others_waiting(genbench, tmp_path):
    (tmp_path / "swept.py").write_text(SWEPT)
    plan = genbench("plan", *words("swept.steps=2,8")[1:], "--json").json
    holder = (
        f"import sys; from pathlib import Path; from genbench.support.lock import locked\n"
        f"with locked(Path('runs/{plan[0]['id']}')): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", holder], cwd=tmp_path, stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert genbench(*words("swept.steps=2,8")).code == 5
        other.stdin.close()
    assert not list(tmp_path.glob("runs/swept-steps8-*"))
