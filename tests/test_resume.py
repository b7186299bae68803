"""Every shipped model, killed twice in its training, comes to the weights of one that was never killed."""

import pytest
import torch
from shipped import MODELS
from toys import toy_job

from genbench.metering.meter import Meter
from genbench.planning.config import ModelChoice, configure
from genbench.records import checkpoint
from genbench.records.job import Runtime
from genbench.running.defaults import load_plugins
from genbench.support import faults, store
from genbench.support.faults import InjectedFault
from genbench.training import loop
from genbench.training.loop import build_model
from genbench.training.train import train

AT_ONCE = "flow"  # whose first step sets weights from data
GUIDED = {"ddpm with a classifier": "ddpm", "ldm with a classifier": "ldm"}  # killed in its phase
MEMORIES = ("ebm", "jem")  # which take whole batches
LABELLED = ("jem", *GUIDED)
ALL = [pytest.param(name, marks=() if name == AT_ONCE else pytest.mark.slow) for name in (*MODELS, *GUIDED)]


def weights(folder, name, digits, kills=(), device="cpu"):
    """Digests of all that a training of ten steps leaves, and what it counted."""
    kind, _ = load_plugins().model(GUIDED.get(name, name))
    preset = "tiny" if "tiny" in kind.presets else None
    parts = {"batch_size": 16, "micro_batch": 0 if name in MEMORIES else 8}
    if name in GUIDED:
        parts |= {"classifier": True, "classifier_share": 0.5}
    config = configure(kind, ModelChoice(name=kind.name, preset=preset, config=parts))
    plain, role = config.model_dump(mode="json"), config.of_role("train")
    runtime = Runtime(out=folder, cache=folder / "cache", device=device)
    given = {"config": plain, "train_config": role, "conditional": name in LABELLED, "runtime": runtime}
    job = toy_job(folder, kind, budget="10steps", curve=4, **given)
    job.folder.mkdir(parents=True)
    for kill in (*kills, None):
        faults.arm(f"{kill}:raise" if kill else "")
        meter = Meter(torch.device(device))
        model = build_model(job, load_plugins(), digits, meter.device)
        try:
            with meter.training():
                train(job, model, digits, job.folder, meter)
        except InjectedFault:
            continue
    points = {path.name: digests(path) for path in (job.folder / "curve").glob("*")}
    return digests(job.folder / "checkpoint" / "latest"), points, meter.images, meter.flops


def digests(folder):
    return store.read_json(folder / checkpoint.MANIFEST)["files"]


@pytest.mark.parametrize("name", ALL)
def test_a_model_killed_twice_is_the_undisturbed_one(tmp_path, digits, monkeypatch, name):
    whole = weights(tmp_path / "whole", name, digits)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    kills = ("train.update:3", "checkpoint.rotated:3", "train.kept:1", "train.end")
    assert weights(tmp_path / "killed", name, digits, kills) == whole


@pytest.mark.slow
def test_a_cascade_killed_twice_in_its_second_stage_is_the_undisturbed_one(tmp_path, digits, monkeypatch):
    """Its upsampler is trained in steps 5 to 9."""
    whole = weights(tmp_path / "whole", "cascade", digits)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    assert weights(tmp_path / "killed", "cascade", digits, ("train.update:7", "checkpoint.rotated:2")) == whole


def test_a_first_stage_killed_twice_beside_its_critic_is_the_undisturbed_one(tmp_path, digits, monkeypatch):
    """Five updates alone, then two in each step: the ninth is the critic's second, and the third after that its fourth.

    Vectors of the codebook are moved meanwhile.
    """
    whole = weights(tmp_path / "whole", "vqgan", digits)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    assert weights(tmp_path / "killed", "vqgan", digits, ("train.update:9", "train.update:4")) == whole
