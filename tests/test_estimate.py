"""What a plan estimates: known answers by hand, agreement with what a run counts, and a reason where there is none."""

import json
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from plugin_sources import plugin_source
from shipped import MODELS, ONE_BY_ONE
from torch import nn

from genbench import Model, Phase
from genbench.data.condition_plan import ConditionPlan
from genbench.data.dataset import Dataset, Part
from genbench.devices import peak_memory, reset_peak_memory, resident_memory
from genbench.metering.flops import FlopCounter
from genbench.metering.meter import Meter
from genbench.planning.earlier import earlier_runs, read_earlier
from genbench.planning.estimate import estimate
from genbench.planning.session import Request, open_session
from genbench.planning.shadow import build
from genbench.planning.spending import Spending, Update, spend
from genbench.records.budget import Budget
from genbench.records.cost import Cost, EvaluateCost, SampleCost, TrainCost
from genbench.records.record import DatasetStamp, JobStamp, Record, SamplesStamp
from genbench.records.v100 import NOMINAL_FLOPS, nominal_days
from genbench.running.environment import environment
from genbench.running.run import parameters_by_phase
from genbench.running.sample import draw
from genbench.support.errors import BadInput
from genbench.training.train import train

FEW = ["-d", "digits", "--samples", "100", "--likelihood-images", "4", "--device", "cpu"]


def session_of(model, *settings, budget="5steps", plugin=None, **options):
    options = {"datasets": ["digits"], "samples": 100, "budget": budget, "precision": "fp32", **options}
    plugins = () if plugin is None else (str(plugin),)
    words = tuple(f"{model}.{setting}" for setting in settings)
    return open_session(Request(None, options, (model,), words, device="cpu", plugins=plugins))


def planned(session, records=(), utilisation=0.5):
    job = session.jobs[0]
    return estimate(job, session.datasets[job.dataset], session.plugins, records, utilisation)


def trained(session, folder):
    """The job's model after its training here, and the meter that counted it."""
    job = session.jobs[0]
    job = job.model_copy(update={"runtime": job.runtime.model_copy(update={"out": folder})})
    data, (kind, _) = session.datasets[job.dataset], session.plugins.model(job.model)
    model, meter = kind(data.spec(job.conditional), kind.Config(**job.config)), Meter(torch.device("cpu"))
    parameters = parameters_by_phase(model)
    job.folder.mkdir(parents=True)
    with meter.training():
        return train(job, model, data, job.folder, meter), meter, parameters


LINE = plugin_source("""
class Line(Model):
    name = "line"
    def __init__(self, data, config):
        super().__init__(data, config)
        self.layer = nn.Linear(data.dims, 3)
    def loss(self, phase, batch):
        return self.layer(batch.images.flatten(1)).mean()
    def sample(self, n, labels=None):
        return (self.layer.weight @ torch.randn(self.data.dims, n)).new_zeros(n, *self.data.shape)

class Deep(Line):
    name = "deep"
    def __init__(self, data, config):
        super().__init__(data, config)
        self.layer = nn.Sequential(nn.Linear(data.dims, 5), nn.Linear(5, 3))
    def sample(self, n, labels=None):
        return torch.zeros(n, *self.data.shape)

class Reads(Line):
    name = "reads"
    def loss(self, phase, batch):
        assert -1 <= float(batch.images.mean()) <= 1
        return super().loss(phase, batch)

class Asks(Line):
    name = "asks"
    def loss(self, phase, batch):
        loss = super().loss(phase, batch)
        return 2 * loss if (batch.images > 5).any() else loss

class Waits(Line):
    name = "waits"
    def loss(self, phase, batch):
        while not (batch.images > 0).any():
            pass
        return super().loss(phase, batch)

class Broken(Line):
    name = "broken"
    def loss(self, phase, batch):
        return super().loss(phase, batch).nonsense
    def sample(self, n, labels=None):
        raise RuntimeError("no samples today")
""")
OWN = "\n@hookimpl\ndef train(job, model, data, folder, meter):\n    return model\n"


@pytest.fixture
def line(tmp_path):
    file = tmp_path / "line.py"
    file.write_text(LINE)
    return file


def test_a_linear_layer_is_counted_as_by_hand(line):
    found = planned(session_of("line", "batch_size=8", plugin=line))
    phase = found.phases["train"]
    assert found.parameters == phase.parameters == 64 * 3 + 3
    assert phase.flops_per_update == 2 * (2 * 8 * 64 * 3)  # forward, and backward to the weights
    assert (found.train_steps, found.train_images, found.train_flops) == (5, 40, 5 * phase.flops_per_update)
    assert phase.optimizer_bytes == 2 * 195 * 4 + 2 * 4  # two moments a weight, and a step a tensor
    parts = found.peak_parts
    assert parts["weights"] == parts["averaged_weights"] == parts["gradients"] == 195 * 4
    assert parts["activations"] == 8 * 64 * 4  # the images, which the product keeps
    assert found.estimated_peak_bytes == sum(parts.values()) and parts["process"] > 10**7
    assert (found.sample_nfe, found.sample_flops_per_image) == (1, 2 * 64 * 3)
    assert found.sample_flops == 100 * 2 * 64 * 3
    assert found.v100_days == found.train_flops / (0.5 * NOMINAL_FLOPS) / 86_400 and "0.5 of" in found.v100_basis


def test_what_is_kept_for_the_backward_pass_is_counted_without_the_weights(line):
    found = planned(session_of("deep", "batch_size=8", plugin=line))
    assert found.peak_parts["activations"] == 8 * 64 * 4 + 8 * 5 * 4  # the images, and what is between the layers


@pytest.mark.parametrize("name", ["line", "reads"])
def test_micro_batches_save_memory_and_no_flops(line, name):
    whole, parts = (planned(session_of(name, "batch_size=8", f"micro_batch={m}", plugin=line)) for m in (0, 4))
    assert parts.phases["train"].flops_per_update == whole.phases["train"].flops_per_update
    assert parts.phases["train"].activation_bytes == whole.phases["train"].activation_bytes / 2
    assert parts.train_images == whole.train_images == 40


MANY_CALLS = (*ONE_BY_ONE, "flow_matching", "cascade")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in MANY_CALLS)) for name in MODELS]
)
def test_what_is_planned_is_what_a_run_counts(name, tmp_path):
    options = ["preset=tiny"] if name != "gaussian" else []
    own = {"ddpm": ["attention=[0]", "optimizer=muon"], "ldm": ["ae_share=0.5", "ae_batch_size=12"]}
    options += own.get(name, [])
    conditional = name in ("gan", "vae", "jem")
    session = session_of(name, *options, budget="130images", conditional=conditional, precision="bf16")
    found, job = planned(session), session.jobs[0]
    model, meter, parameters = trained(session, tmp_path)
    assert {key: phase.parameters for key, phase in found.phases.items()} == {
        key: count for key, count in parameters.items() if key != "fixed"
    }
    assert found.parameters == sum(p.numel() for p in model.parameters())
    for key, ledger in meter.phases.items():
        assert found.phases[key].flops_per_update == ledger.flops / ledger.updates
        assert found.phases[key].flops_per_image == ledger.flops / ledger.images
        assert not found.phases[key].tried
    assert (found.train_steps, found.train_images, found.train_flops) == (meter.steps, meter.images, meter.flops)
    assert {op for phase in found.phases.values() for op in phase.uncounted_ops} == meter.uncounted_ops
    if not job.samples:
        return
    assert found.sample_nfe == model.nfe
    plan = ConditionPlan.of(session.datasets[job.dataset], job.kind, 100)
    with FlopCounter() as counter:
        draw(job, model.eval(), plan, 0, 100)
    assert found.sample_flops == pytest.approx(counter.flops, rel=1e-12)


def test_a_loss_that_needs_numbers_is_tried_on_a_few_images(line, tmp_path):
    session = session_of("reads", "batch_size=7", plugin=line)
    found = planned(session)
    _, meter, _ = trained(session, tmp_path / "runs")
    assert found.phases["train"].tried and found.train_flops == meter.flops
    assert found.phases["train"].activation_bytes == 7 * 64 * 4 and "phases.train" not in found.reasons


def test_a_bound_as_objective_is_tried_too(tmp_path):
    session = session_of("ddpm", "preset=tiny", "objective=variational", "batch_size=6")
    found = planned(session)
    _, meter, _ = trained(session, tmp_path)
    assert found.phases["train"].tried and found.train_flops == meter.flops


def test_what_is_too_large_to_be_tried_says_so(line, monkeypatch):
    monkeypatch.setattr("genbench.planning.estimate.TRIED_PARAMETERS", 10)
    found = planned(session_of("reads", plugin=line))
    assert found.phases["train"].flops_per_update is None and found.train_flops is None
    assert "too large to try" in found.reasons["train_flops"] == found.reasons["v100_days"]
    assert "too large" in found.reasons["estimated_peak_bytes"] and found.estimated_peak_bytes is None
    assert found.train_steps == 5 and found.sample_flops


def test_a_large_model_whose_loss_asks_whether_anything_is_true_is_counted_as_if_nothing_were(line, monkeypatch):
    tried = planned(session_of("asks", plugin=line)).phases["train"]
    assert tried.tried and not tried.supposed
    monkeypatch.setattr("genbench.planning.estimate.TRIED_PARAMETERS", 10)
    found = planned(session_of("asks", plugin=line))
    assert found.phases["train"].supposed and not found.phases["train"].tried
    assert found.phases["train"].flops_per_update == tried.flops_per_update
    assert found.v100_days and found.estimated_peak_bytes and "phases.train" not in found.reasons
    endless = planned(session_of("waits", plugin=line))
    assert endless.train_flops is None and "too large to try" in endless.reasons["train_flops"]


def test_a_learned_variance_of_a_large_network_is_counted_like_that_of_a_small_one(monkeypatch):
    options = ("ddpm", "preset=tiny", "variance=learned", "objective=hybrid", "batch_size=6")
    tried = planned(session_of(*options))
    monkeypatch.setattr("genbench.planning.estimate.TRIED_PARAMETERS", 10)
    found = planned(session_of(*options))
    assert tried.phases["train"].tried and found.phases["train"].supposed
    assert found.train_flops == tried.train_flops


def test_the_table_says_what_was_supposed(genbench, line, monkeypatch):
    monkeypatch.setattr("genbench.planning.estimate.TRIED_PARAMETERS", 10)
    result = genbench("plan", "--plugin", line, "-m", "asks", *FEW, "--budget", "5steps")
    assert result.code == 0 and "as if nothing were true" in result.out.replace("\n  ", " ")


def test_what_cannot_be_estimated_says_why(line):
    found = planned(session_of("broken", plugin=line))
    assert "nonsense" in found.reasons["train_flops"] and "no samples today" in found.reasons["sample_flops"]
    assert found.train_flops is found.v100_days is found.estimated_peak_bytes is found.sample_flops is None


@pytest.mark.slow
def test_a_likelihood_of_too_many_operations_is_not_counted_and_ends_no_plan(few_scenes):
    """An error raised inside of one of torch's operations ended the process here."""
    words = ["plan", "-m", "flow_matching", "-d", "fewmaps", "--datasets", few_scenes, "--condition", "own"]
    words += ["--device", "cpu", "--json"]
    done = subprocess.run([sys.executable, "-m", "genbench", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "more than 60,000 operations" in json.loads(done.stdout)[0]["estimate"]["reasons"]["likelihood_flops"]


def test_a_training_of_the_models_own_is_not_guessed(line):
    line.write_text(LINE + OWN)
    found = planned(session_of("line", plugin=line))
    assert "hook itself" in found.reasons["train_flops"] == found.reasons["v100_days"]
    assert found.parameters == 195 and not found.phases and found.sample_flops
    assert "hook itself" in found.reasons["estimated_peak_bytes"]


class Tied(Model):
    name = "tied"

    def __init__(self, data, config):
        super().__init__(data, config)
        weight = nn.Parameter(torch.randn(1024, 512))
        self.one, self.two = nn.Linear(512, 1024), nn.Linear(512, 1024)
        self.one.weight, self.two.weight = weight, weight


def test_building_takes_no_memory_and_keeps_shared_weights(digits):
    model = build(Tied, digits.spec(False), Tied.Config())
    assert model.one.weight is model.two.weight and model.one.weight.is_meta and not model.one.bias.is_meta
    assert not nn.Linear(512, 1024).weight.is_meta


class Mixes(Tied):
    def __init__(self, data, config):
        super().__init__(data, config)
        self.seen = float(self.one.weight.detach().sum())


def test_a_model_whose_building_needs_numbers_is_built_with_them(digits):
    assert not build(Mixes, digits.spec(False), Mixes.Config()).one.weight.is_meta


def steps_one_by_one(budget, updates):
    spent = Spending(updates={update.phase: 0 for update in updates})
    while (progress := spent.amount(budget.unit) / budget.amount) < 1:
        for update in updates:
            if update.span[0] <= progress < update.span[1] and spent.steps % update.every == 0:
                spent.updates[update.phase] += update.repeats
                spent.images += update.repeats * update.images
                spent.flops += update.repeats * update.flops
        spent.steps += 1
    return spent


@pytest.mark.parametrize("budget", ["7steps", "1000images", "997images", "1e5flops", "3.3e4flops", "1steps", "25steps"])
@pytest.mark.parametrize(
    "updates",
    [
        [Update("a", 8, 100)],
        [Update("a", 8, 70, 5), Update("b", 8, 330)],
        [Update("a", 8, 70, 1, (0.0, 0.28)), Update("b", 4, 9, 1, (0.28, 1.0))],  # 0.28 * 25 is a little above 7
        [Update("a", 12, 70, 1, (0.0, 0.3)), Update("b", 7, 31, 2, (0.3, 1.0))],
        [Update("a", 12, 70, 1, (0.0, 1 / 3)), Update("b", 7, 31, 2, (0.1, 0.7)), Update("c", 5, 11, 1, (0.1, 1.0))],
        [Update("a", 8, 70), Update("b", 8, 700, every=16)],
        [Update("a", 8, 70, every=4), Update("b", 3, 31, 2, every=6)],
        [
            Update("a", 8, 70, 3, (0.0, 0.4), 2),
            Update("b", 7, 31, 2, (0.1, 1.0), 3),
            Update("c", 5, 11, 1, (0.5, 1), 5),
        ],
    ],
)
def test_the_steps_to_a_budget_are_those_taken_one_by_one(budget, updates):
    assert spend(Budget.parse(budget), updates) == steps_one_by_one(Budget.parse(budget), updates)


def test_a_budget_that_is_never_spent():
    assert spend(Budget.parse("10flops"), [Update("a", 8, 0)]) is None
    assert spend(Budget.parse("10steps"), [Update("a", 8, 1, 1, (0.0, 0.5))]).steps == 10
    found = planned(session_of("gaussian", budget="1e6flops"))
    assert found.train_flops is None and "never be reached" in found.reasons["train_flops"]


def record_of(session, seconds, budget, **changes):
    """A record of the session's job as it would be after `seconds` of training."""
    job, data = session.jobs[0], session.datasets["digits"]
    stamp = JobStamp(id=job.id, model=job.model, label="x", config=job.config, dataset="digits", seed=9,
                     budget=budget, precision=job.precision)  # fmt: skip
    cost = Cost(
        train=TrainCost(seconds=seconds, device_seconds=seconds, images=1000, steps=10, flops=1e9, peak_bytes=700),
        sample=SampleCost(seconds=2, images=50, images_per_second=25, batch=50, nfe=1),
        evaluate=EvaluateCost(seconds=3),
    )
    dataset = DatasetStamp(name="digits", digest="d", shape=data.shape, num_classes=10, counts={})
    record = Record(status="complete", job=stamp, dataset=dataset, environment=environment(job), cost=cost,
                    samples=SamplesStamp(count=job.samples, config=job.sample_config))  # fmt: skip
    return record.model_copy(update=changes)


def test_earlier_runs_tell_what_seconds_buy(line):
    session = session_of("line", budget="30s", plugin=line)
    alone = planned(session)
    assert alone.train_flops is None and "no earlier run" in alone.reasons["train_flops"] and alone.earlier is None
    records = [record_of(session, seconds, {"steps": 10}) for seconds in (10, 20, 40)]
    found = planned(session, records)
    assert found.earlier.runs == 3 and found.earlier.peak_bytes == 700
    assert (found.train_images, found.train_steps, found.train_flops) == (1500, 15, 1.5e9)
    assert (found.earlier.train_seconds, found.earlier.sample_seconds, found.earlier.seconds) == (30, 4, 37)


def test_earlier_runs_tell_how_long_images_take(line):
    session = session_of("line", "batch_size=8", budget="4000images", plugin=line)
    found = planned(session, [record_of(session, 20, {"steps": 10})])
    assert found.earlier.train_seconds == pytest.approx(80) and found.train_images == 4000


def test_only_runs_of_the_same_settings_count(line):
    session = session_of("line", budget="30s", plugin=line)
    job, data, same = session.jobs[0], session.datasets["digits"], record_of(session, 10, {})

    def with_(part, **changes):
        return same.model_copy(update={part: getattr(same, part).model_copy(update=changes)})

    others = [
        with_("job", precision="bf16"), with_("job", config={**job.config, "batch_size": 9}), with_("job", model="z"),
        with_("environment", device="another"), with_("environment", threads=99), with_("job", conditional=True),
        with_("dataset", shape=(1, 9, 9)),
    ]  # fmt: skip
    assert earlier_runs(job, data, others) is None and earlier_runs(job, data, [same, *others]).runs == 1


def test_records_that_cannot_be_read_and_failed_ones_are_left_out(line, tmp_path):
    session = session_of("line", budget="30s", plugin=line)
    texts = {"a": record_of(session, 10, {}).to_json(), "b": record_of(session, 10, {}, status="failed").to_json()}
    texts |= {"c": texts["a"][:-40], "d": texts["a"].replace('"model": "line"', '"model": "x"')}
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text(text)
    assert [record.folder.name for record in read_earlier(tmp_path, ["line"])] == ["a"]
    assert read_earlier(tmp_path / "nowhere", ["line"]) == []


def test_nominal_days():
    assert nominal_days(NOMINAL_FLOPS * 86_400, 1) == 1 and nominal_days(NOMINAL_FLOPS * 86_400, 0.25) == 4


@pytest.fixture
def odd(tmp_path):
    """A datasets file whose images have sides that cannot be halved."""
    np.save(tmp_path / "odd.npy", np.random.default_rng(0).integers(0, 256, (40, 1, 9, 9), np.uint8))
    text = '[odd]\nsource = "array"\npath = "odd.npy"\ntest_fraction = 0.5\nshape = [1, 9, 9]\nnum_classes = 0\n'
    (tmp_path / "odd.toml").write_text(text)
    return tmp_path / "odd.toml"


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_model_that_cannot_be_built_is_found_before_anything_starts(genbench, tmp_path, odd, command):
    words = ["-m", "flow", "--set", "flow.mixing=conv", "--samples", "10", "--device", "cpu"]
    result = genbench(command, *words, "-d", "odd", "--datasets", odd)
    assert result.code == 2 and "'flow'" in result.err and "1x9x9" in result.err and "odd ones" in result.err
    assert not (tmp_path / "runs").exists()


def test_what_a_model_misses_on_this_machine_keeps_its_exit_code(genbench, line):
    raises = 'from genbench import EnvironmentProblem\n        raise EnvironmentProblem("no pretrained weights")'
    line.write_text(LINE.replace("self.layer = nn.Linear(data.dims, 3)", raises, 1))
    result = genbench("run", "--plugin", line, "-m", "line", *FEW)
    assert result.code == 4 and "no pretrained weights" in result.err


@pytest.mark.parametrize("as_json", [False, True])
def test_a_dataset_that_is_absent_is_planned_nevertheless(genbench, tmp_path, as_json):
    words = ["-m", "ddpm", "--set", "ddpm.preset=tiny", "-d", "cifar10", "--budget", "320images", "--offline"]
    words += ["--data-root", tmp_path, "--weights", tmp_path, "--device", "cpu", "--precision", "fp32"]
    result = genbench("plan", *words, *["--json"] * as_json)
    assert result.code == 4
    if as_json:
        row = result.json[0]
        assert row["id"] is None and not row["done"] and "CIFAR10 is not below" in row["problems"][0]["message"]
        assert row["problems"][0]["code"] == "environment" and row["estimate"]["train_images"] == 320
        assert row["estimate"]["flops_per_update"]["train"] > 10**7 and row["estimate"]["method"]
    else:
        assert "cannot run" in result.out and "CIFAR10 is not below" in result.err and "V100-days" in result.out
    assert genbench("run", *words).code == 4 and not (tmp_path / "runs").exists()


def test_the_table_is_readable(genbench):
    result = genbench("plan", "-m", "gan", "--set", "gan.preset=tiny", "-m", "gaussian", *FEW, "--budget", "1e9flops",
                      "--seeds", "2", "--v100-utilisation", "0.5")  # fmt: skip
    lines = result.out.splitlines()
    assert result.code == 0 and max(map(len, lines)) <= 100
    (row,) = [line for line in lines if line.startswith("gan ")]
    assert "~1.00e9" in row and sum(line.startswith(("  critic", "  generator")) for line in lines) == 2
    assert any("never be reached" in line for line in lines) and "1 V100 = 0.5 of its nominal" in result.out
    assert "These are estimates" in result.out and genbench("plan", *FEW, "--v100-utilisation", "0").code == 2


def test_what_is_done_needs_no_estimate(genbench, tmp_path):
    words = ["-m", "gaussian", *FEW, "--budget", "20steps"]
    assert genbench("run", *words).code == 0
    assert "estimate" not in genbench("plan", *words, "--json").json[0]
    more = genbench("plan", *words, "--seeds", "2", "--json").json
    past = [row["estimate"]["earlier"] for row in more if row["model"] == "gaussian" and not row["done"]]
    assert len(past) == 1 and past[0]["runs"] == 1 and past[0]["seconds"] > 0 and past[0]["peak_bytes"] > 10**7
    assert "from 1 earlier run: training" in genbench("plan", *words, "--seeds", "2").out


def memory_hungry():
    return session_of("ddpm", "widths=[32,64]", "patch=1", "batch_size=600", budget="2steps")


def bytes_taken(folder):
    """Peak memory of the training beyond what the process had before."""
    session, device = memory_hungry(), torch.device("cpu")
    before = resident_memory(device)
    reset_peak_memory(device)
    trained(session, folder)
    return peak_memory(device)[0] - before


@pytest.mark.slow
def test_the_peak_is_that_of_a_run_within_a_factor_of_two(tmp_path):
    """In a process of its own: this one may hold memory that earlier tests have freed."""
    found = planned(memory_hungry())
    counted = found.estimated_peak_bytes - found.peak_parts["process"]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        taken = pool.submit(bytes_taken, tmp_path).result()
    assert counted > 2e8 and 0.5 < counted / taken < 2, (counted, taken)


@pytest.mark.slow
def test_a_large_network_is_planned_in_seconds():
    """The U-Net of 114 M parameters on images of 256x256 pixels, sampled in 1,000 steps."""
    session = session_of(
        "ddpm", "preset=paper", "widths=[128,128,256,256,512,512]", "attention=[4]", "patch=1", budget="1000steps"
    )
    pixels = np.broadcast_to(np.zeros(1, np.uint8), (1000, 3, 256, 256))
    part = Part(pixels, None)
    large = Dataset("large", "", "d", (3, 256, 256), 0, (), 0, Path(), part, part)
    began = time.process_time()
    found = estimate(session.jobs[0], large, session.plugins, [], 0.3)
    assert time.process_time() - began < 20
    assert found.parameters == 113_673_219 and found.phases["train"].flops_per_update > 1e14
    assert found.sample_nfe == 1000 and found.sample_flops_per_image > 4e14


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "classes", "updates", "published"),
    [("paper-adm-256", 1000, 1_980_000, 916), ("paper-adm-lsun", 0, 500_000, 232)],
)
def test_the_published_trainings_of_adm_are_planned_within_a_quarter_of_their_v100_days(
    preset, classes, updates, published
):
    """By the share of a V100's rate that is assumed unless told otherwise."""
    session = session_of(
        "ddpm", f"preset={preset}", budget=f"{updates}steps", conditional=classes > 0, precision="bf16"
    )
    pixels = np.broadcast_to(np.zeros(1, np.uint8), (1000, 3, 256, 256))
    part = Part(pixels, np.arange(1000) if classes else None)
    large = Dataset("large", "", "d", (3, 256, 256), classes, (), 0, Path(), part, part)
    found = estimate(session.jobs[0], large, session.plugins, [], 0.3)
    assert found.phases["train"].flops_per_image == pytest.approx(6 * 1.12e12, rel=0.001)
    assert found.v100_days == pytest.approx(published, rel=0.25) and found.estimated_peak_bytes > 2**33


def test_an_unfit_phase_is_bad_input(line):
    session = session_of("line", plugin=line)
    kind, _ = session.plugins.model("line")
    kind.phases = lambda self: [Phase("a.b", self, torch.optim.SGD(self.parameters(), 0.1))]
    with pytest.raises(BadInput, match="a name without dots"):
        planned(session)


def test_what_each_step_of_a_chain_frees_is_not_kept_for_the_backward_pass():
    few, many = (planned(session_of("ebm", "preset=tiny", f"steps={n}")).phases["energy"] for n in (1, 12))
    assert few.flops_per_update < many.flops_per_update and few.activation_bytes == many.activation_bytes
