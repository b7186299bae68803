"""--compile: the networks that do the work, the same losses within rounding, and a clear word where it cannot be."""

import json
import os
import subprocess
import sys

import pytest
import torch
from records_factory import make_record
from torch import nn
from toys import toy_job

from genbench import DataSpec, Model
from genbench.commands.compare import differences
from genbench.metering.meter import Meter
from genbench.planning.config import ModelChoice, configure
from genbench.records.job import Runtime
from genbench.running.defaults import load_plugins
from genbench.running.sample import sample
from genbench.tables.groups import identity
from genbench.training.compilation import compiled, networks
from genbench.training.loop import build_model
from genbench.training.train import train

DATA = DataSpec("toy", (1, 8, 8))


def tiny(name, **config):
    kind, _ = load_plugins().model(name)
    preset = "tiny" if "tiny" in kind.presets else None
    return kind(DATA, configure(kind, ModelChoice(name=name, preset=preset, config=config)))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ddpm", {"net"}),
        ("ldm", {"autoencoder.encoder", "autoencoder.decoder", "net"}),
        ("cascade", {"base", "upsampler"}),
        ("vqgan", {"stage.coder.encoder"}),  # the critic's weight goes back through the others twice
        ("vae", {"encoder", "decoder", "to_latent", "from_latent"}),
        ("gan", {"generator", "critic"}),
        ("ebm", {"network"}),
        ("flow_matching", {"net"}),
        ("flow", {"levels.0", "levels.1", "levels.2"}),
        ("gaussian", set()),
        ("pixelcnn", {"trunk", "head"}),
        ("pixeliqn", {"trunk", "head"}),
        ("sparse_transformer", {"net"}),
    ],
)
def test_the_networks_that_do_the_work_are_compiled(name, found):
    model = tiny(name)
    names = {id(module): name for name, module in model.named_modules()}
    assert {names[id(module)] for module in networks(model)} == found


def test_a_decoder_without_a_critic_is_compiled_too():
    model = tiny("ldm", first_stage="vq", codes=16)
    names = {id(module): name for name, module in model.named_modules()}
    wanted = {"autoencoder.coder.encoder", "autoencoder.coder.decoder", "net"}
    assert {names[id(module)] for module in networks(model)} == wanted


@pytest.mark.parametrize(("loss", "critic"), [("hinge", True), ("wasserstein", False)])
def test_a_critic_under_a_gradient_penalty_stays_as_it_is(loss, critic):
    model = tiny("gan", loss=loss)
    assert any(module is model.critic for module in networks(model)) == critic


class Small(Model):
    """One network of one layer, soon compiled."""

    name = "small"

    def __init__(self, data, config):
        super().__init__(data, config)
        self.net = nn.Linear(data.dims, data.dims)
        self.compiled_calls = 0

    def loss(self, phase, batch):
        self.compiled_calls += self.net._compiled_call_impl is not None
        return (self.net(batch.images.flatten(1)) - 1).square().mean()

    def sample(self, n, labels=None):
        self.compiled_calls += self.net._compiled_call_impl is not None
        return self.net(torch.randn(n, self.data.dims)).view(n, *self.data.shape)


def test_names_stay_and_nothing_is_compiled_outside_the_block():
    model = Small(DATA, Small.Config())
    before = list(model.state_dict())
    with compiled(model, True):
        assert model.net._compiled_call_impl is not None and list(model.state_dict()) == before
    assert model.net._compiled_call_impl is None
    with compiled(model, False):
        assert model.net._compiled_call_impl is None


def test_training_and_sampling_are_compiled(tmp_path, digits):
    """Without compiling: what is asked is where compiled code would be called."""
    job = toy_job(tmp_path, Small, compile=True, budget="3steps", samples=20)
    job.folder.mkdir(parents=True)
    model, meter = Small(DATA, Small.Config(batch_size=8)), Meter(torch.device("cpu"))
    with torch.compiler.set_stance("force_eager"), meter.training():
        trained = train(job, model, digits, job.folder, meter)
    assert model.compiled_calls == 3 and trained.net._compiled_call_impl is None
    with torch.compiler.set_stance("force_eager"), meter.sampling():
        sample(job, trained.eval(), digits, job.folder, meter)
    assert trained.compiled_calls > 0


def test_a_compiled_run_is_another_variant_and_several_processes_share_a_budget_of_seconds_otherwise():
    plain = make_record("ddpm", 0)
    compiled_job = plain.job.model_copy(update={"compile": True})
    other = plain.model_copy(update={"job": compiled_job})
    assert identity(plain) != identity(other)
    assert [row["key"] for row in differences(plain, other)] == ["job.compile"]
    together = plain.model_copy(update={"environment": plain.environment.model_copy(update={"processes": 2})})
    assert plain.job.budget.is_timed == (identity(plain) != identity(together))


def losses(job):
    lines = (job.folder / "progress.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def trained(folder, name, digits, device="cpu", config=None, **changes):
    """The job of a tiny model, after six steps, and 20 samples of it."""
    kind, _ = load_plugins().model(name)
    preset = "tiny" if "tiny" in kind.presets else None
    made = configure(kind, ModelChoice(name=name, preset=preset, config={"batch_size": 8, **(config or {})}))
    plain = {"config": made.model_dump(mode="json"), "train_config": made.of_role("train"), "samples": 20}
    job = toy_job(folder, kind, budget="6steps", runtime=Runtime(out=folder, device=device), **plain, **changes)
    job.folder.mkdir(parents=True)
    meter = Meter(torch.device(device))
    with meter.training():
        model = train(job, build_model(job, load_plugins(), digits, meter.device), digits, job.folder, meter)
    with meter.sampling():
        return job, sample(job, model.eval(), digits, job.folder, meter)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_compiled_ddpm_learns_what_the_eager_one_learns(tmp_path, digits):
    both = [trained(tmp_path / str(c), "ddpm", digits, config={"widths": [8]}, compile=c) for c in (False, True)]
    found, samples = [losses(job) for job, _ in both], both[1][1]
    assert found[1] == pytest.approx(found[0], rel=1e-3) and len(found[0]) == 6
    assert samples.images.shape == (20, 1, 8, 8) and samples.images.std() > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_compiled_gradient_penalty_trains(tmp_path, digits):
    """Its gradient is differentiated again, which compiled code refuses."""
    kind, _ = load_plugins().model("gan")
    choice = ModelChoice(name="gan", preset="tiny", config={"loss": "wasserstein", "batch_size": 8})
    config = configure(kind, choice).model_dump(mode="json")
    job = toy_job(tmp_path, kind, budget="3steps", compile=True, config=config, runtime=Runtime(out=tmp_path))
    job.folder.mkdir(parents=True)
    meter = Meter(torch.device("cpu"))
    with meter.training():
        train(job, build_model(job, load_plugins(), digits, meter.device), digits, job.folder, meter)
    assert meter.steps == 3


@pytest.mark.slow
def test_a_machine_without_a_compiler_is_told_so_by_the_plan(tmp_path):
    environment = os.environ | {"CXX": "/nowhere/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [
        sys.executable,
        "-m",
        "genbench",
        "plan",
        "-m",
        "gaussian",
        "-d",
        "digits",
        "--device",
        "cpu",
        "--compile",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "--compile: torch.compile does not work on cpu" in done.stderr and "hint: it needs a C++" in done.stderr
