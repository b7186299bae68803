"""What a model remembers for its training: exact on resume, no part of its weights; an energy model with one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from energy_plugin import Energy
from finished import SMALL
from test_phases import train_until
from test_train import same
from toys import Toy, build, toy_job, train_toy

from genbench.planning.estimate import estimate
from genbench.planning.session import Request, open_session
from genbench.records import checkpoint
from genbench.records.checkpoint import weights_digest
from genbench.support.errors import BadInput, CorruptData
from genbench.testing import check_model
from genbench.training.ema import WeightAverage
from genbench.training.memory import forget, memories, restore_memories

PLUGIN = Path(__file__).parent / "energy_plugin.py"


class Remembers(Toy):
    """Learns from all earlier batches: one memory is changed in place, one grows."""

    name = "remembers"

    def __init__(self, data, config):
        super().__init__(data, config)
        self.register_memory("last", torch.zeros(8, *data.shape))
        self.register_memory("means", torch.zeros(0))
        self.register_memory("count", torch.zeros((), dtype=torch.int64))

    def loss(self, phase, batch):
        target = 0.5 * (batch.images + self.last[: len(batch)])
        self.last[: len(batch)] = batch.images
        self.means = torch.cat([self.means, batch.images.mean().reshape(1)])
        self.count += 1
        return (target - self.mean).square().mean() * self.means.mean().exp() / self.count


@pytest.mark.parametrize("kill", [1, 6])
def test_a_memory_is_resumed_exactly(tmp_path, digits, monkeypatch, kill):
    whole, _ = train_toy(tmp_path / "whole", digits, Remembers)
    train_until(monkeypatch, kill, digits, tmp_path / "killed", Remembers)
    assert same(train_toy(tmp_path / "killed", digits, Remembers)[0], whole)


def test_a_memory_is_stored_once_and_in_no_weights(tmp_path, digits, monkeypatch):
    train_until(monkeypatch, 12, digits, tmp_path, Remembers, curve=3)
    folder = toy_job(tmp_path, Remembers, curve=3).folder
    tensors, _ = checkpoint.load(folder / "checkpoint")
    assert {name: len(value) for name, value in tensors.pop("memory").items() if value.dim()} == {
        "last": 8,
        "means": 12,
    }
    assert all("last" not in name and "means" not in name for group in tensors.values() for name in group)
    trained, _ = train_toy(tmp_path, digits, Remembers, curve=3)
    assert {name: tuple(value.shape) for name, value in memories(trained).items()} == {
        "last": (0, *digits.shape), "means": (0,), "count": (0,)
    }  # fmt: skip
    assert set(checkpoint.load(folder / "checkpoint")[0]) == {"model", "ema"}, "it ends with its training"
    assert set(checkpoint.read(folder / "curve" / "1")[0]["ema"]) == set(trained.state_dict())


def test_samples_are_of_weights_whatever_is_remembered(tmp_path, digits):
    model = build(toy_job(tmp_path, Remembers), digits, Remembers)
    before = weights_digest(model)
    model.last += 1
    assert weights_digest(model) == before
    average = WeightAverage(model, model.phases(), 0.9)
    average.copy_buffers(model)
    assert len(average.model.last) == 0 and len(model.last) == 8, "a copy has none, and takes none over"
    assert len(forget(model).last) == 0 and weights_digest(model) == before


def test_memories_of_another_model_are_refused(tmp_path, digits):
    model = build(toy_job(tmp_path, Remembers), digits, Remembers)
    with pytest.raises(CorruptData, match=r"\['first'\].*'last'"):
        restore_memories(model, {"first": torch.zeros(1)})


def test_the_kit_knows_memories():
    check_model(Remembers)


class Samples(Remembers):
    name = "samples"

    def sample(self, n, labels=None):
        return self.last[torch.randint(len(self.last), (n,))]


def test_the_kit_finds_a_model_that_samples_from_its_memory():
    with pytest.raises(AssertionError, match="sample"):
        check_model(Samples)


# What a plan says


def session(*settings, **words):
    options = {"datasets": ["digits"], "samples": 100, "budget": "5steps", "precision": "fp32"}
    settings = tuple(f"energy.{setting}" for setting in settings)
    return open_session(Request(None, options, ("energy",), settings, device="cpu", plugins=(str(PLUGIN),), **words))


def test_a_memory_is_in_the_estimate_once():
    found = session("memory=300")
    job = found.jobs[0]
    parts = estimate(job, found.datasets["digits"], found.plugins, (), 1.0).peak_parts
    assert parts["memory"] == 300 * 64 * 4 and parts["averaged_weights"] == parts["weights"] == parts["gradients"]


@pytest.mark.parametrize(
    ("settings", "processes", "told"),
    [
        (["micro_batch=16"], 1, r"energy\.micro_batch=16: model 'energy' keeps a memory \(replay\)"),
        (["micro_batch=32"], 2, r"--processes 2: model 'energy' keeps a memory \(replay\)"),
    ],
)
def test_what_would_lose_changes_of_a_memory_is_refused_when_planning(settings, processes, told):
    with pytest.raises(BadInput, match=told) as problem:
        session(*settings, processes=processes)
    assert problem.value.exit_code == 2


def test_a_micro_batch_of_the_whole_batch_loses_nothing():
    assert session("micro_batch=64").jobs[0].train_config["micro_batch"] == 64


# An energy model


def test_an_energy_model_passes_the_check(genbench):
    result = genbench("check-plugin", PLUGIN)
    assert result.code == 0 and "FAIL" not in result.out, result.out + result.err


def test_an_energy_model_learns(tmp_path, digits):
    config = Energy.Config(batch_size=32, learning_rate=3e-3).model_dump(mode="json")
    trained, _ = train_toy(tmp_path, digits, Energy, budget="150steps", config=config)
    real = torch.from_numpy(digits.test.images[:200]).float() / 127.5 - 1
    noise = 2 * torch.rand(200, *digits.shape) - 1
    assert trained.energy(real).mean() + 0.3 < trained.energy(noise).mean()


@pytest.mark.slow
def test_a_memory_works_with_compiled_networks(tmp_path):
    words = ["--plugin", PLUGIN, "-m", "energy", *SMALL, "--samples", "20", "--compile", "--out", tmp_path / "compiled"]
    done = subprocess.run([sys.executable, "-m", "genbench", "run", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
