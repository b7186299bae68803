"""Every tensor of a model is on the model's device: tried on shadows of a GPU's tensors, which need no GPU."""

import re
import tomllib
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from shipped import MODELS, ONE_BY_ONE
from torch import nn

from genbench import Model
from genbench.capabilities import Classifier, Codebook, EvidenceBound, Likelihood, Reconstruction
from genbench.data.condition_plan import conditions_of
from genbench.devices import has_bf16
from genbench.model import DataSpec
from genbench.planning.config import ModelChoice, configure
from genbench.planning.session import Request, open_session
from genbench.planning.shadow import (
    Limited,
    SayingNo,
    Stopping,
    as_shadow,
    build,
    remember_calls,
    shadow_mode,
    unchecked_distributions,
)
from genbench.planning.updates import shadow_batch
from genbench.running.defaults import load_plugins
from genbench.training.phases import checked_phases

GPU = torch.device("cuda:0")
ROOT = Path(__file__).parent.parent
PEERS = ("pythae", "torchgan", "denoising_diffusion_pytorch", "diffusers", "normflows", "zuko")


def misplaced(kind, config, spec):
    """What of a model meets a tensor of another device, by method; what needs values ends a method without a word."""
    model, found = build(kind, spec, config), {}

    @contextmanager
    def tried(what):
        try:
            with SayingNo():
                yield
        except Exception as error:
            if re.search("different devices|same device", str(error)):
                found[what] = str(error)

    with shadow_mode(), unchecked_distributions():
        as_shadow(model, GPU)
        batch = shadow_batch(model, 4, GPU)
        for phase in checked_phases(model):
            with tried(f"prepare({phase.name})"), torch.no_grad():
                model.prepare(phase.name, batch)
            with tried(f"loss({phase.name})"):
                model.loss(phase.name, batch)  # no backward pass: that needs a GPU
        model.eval()
        with tried("settle"), torch.no_grad():
            model.settle(batch)
        remember_calls(model, lambda: 0, lambda flops: None)
        calls = {
            "sample": (Model, lambda: model.sample(4, conditions_of(spec.kind).example(spec, 4, GPU))),
            "log_prob": (Likelihood, lambda: model.log_prob(batch.images, batch.given)),
            "elbo_terms": (EvidenceBound, lambda: model.elbo_terms(batch.images, batch.given)),
            "reconstruct": (Reconstruction, lambda: model.reconstruct(batch.images, batch.given)),
            "codes": (Codebook, lambda: model.codes(batch.images, batch.given)),
            "classify": (Classifier, lambda: model.classify(batch.images)),
        }
        for what, (ability, call) in calls.items():
            if isinstance(model, ability):
                with tried(what), torch.no_grad(), (counter := Limited()), Stopping(counter):  # enough of a long chain
                    call()
    return found


LONG = (*ONE_BY_ONE, "flow")
"""Models that draw one sub-pixel after another, or go through many couplings."""
SHIPPED = [
    pytest.param(*(name, preset), marks=[pytest.mark.slow] * (preset != "tiny" or name in LONG), id=f"{name}-{preset}")
    for name in MODELS
    for preset in load_plugins().model(name)[0].presets
    if not preset.startswith("paper")
]


@pytest.mark.parametrize(("name", "preset"), SHIPPED)
def test_a_shipped_model_stays_on_its_device(name, preset):
    """With labels too, where it takes them."""
    kind, tried = load_plugins().model(name)[0], 0
    config = configure(kind, ModelChoice(name=name, preset=preset))
    for classes in (0, 10) if "class" in kind.kinds() else (0,):
        spec = DataSpec("noise", (3, 16, 16), classes)
        with suppress(ValueError):  # some presets need labels
            config.check(spec)
            assert not misplaced(kind, config, spec)
            tried += 1
    assert tried


class Stray(Model):
    """Draws noise on the CPU, wherever it is."""

    name = "stray"

    def __init__(self, data, config):
        super().__init__(data, config)
        self.net = nn.Linear(4, data.dims)

    def loss(self, phase, batch):
        return self.net(torch.randn(len(batch), 4)).square().mean()

    def sample(self, n, given=None):
        return self.net(torch.randn(n, 4)).reshape(n, *self.data.shape)


def test_a_tensor_on_another_device_is_found():
    found = misplaced(Stray, Stray.Config(), DataSpec("noise", (1, 4, 4)))
    assert sorted(found) == ["loss(train)", "sample"]


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["peers", "peers-colour"])
def test_a_peer_stays_on_its_device(suite):
    for package in PEERS:
        pytest.importorskip(package)
    plugins = load_plugins([str(ROOT / "benchmarks" / "peers.py")])
    shape = (3, 32, 32) if "colour" in suite else (1, 28, 28)
    for row in tomllib.loads((ROOT / "benchmarks" / f"{suite}.toml").read_text())["models"]:
        choice = ModelChoice(**row)
        kind = plugins.model(choice.name)[0]
        assert not misplaced(kind, configure(kind, choice), DataSpec("noise", shape)), choice.label


def test_a_job_makes_its_device_the_current_one_before_it_trains(tmp_path, monkeypatch, session_cache):
    """So that a plugin's `device="cuda"` is the job's GPU, not the first."""
    from genbench.running import run

    options = {"datasets": ["digits"], "budget": "2steps", "samples": 60, "likelihood_images": 4}
    session = open_session(Request(None, options, ("gaussian",), (), device="cpu", out=tmp_path / "runs"))
    seen = []
    monkeypatch.setattr(run, "use_device", seen.append)
    monkeypatch.setattr(run, "build_model", lambda *_: seen.append("built") or pytest.fail("far enough"))
    with pytest.raises(pytest.fail.Exception):
        run.run_job(session.jobs[0], session.datasets["digits"], session.plugins)
    assert seen == [torch.device("cpu"), "built"]


def test_whether_a_gpu_has_bfloat16_is_asked_of_that_gpu(monkeypatch):
    current = [0]

    @contextmanager
    def on(device):
        before, current[0] = current[0], device.index
        yield
        current[0] = before

    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: current[0] == 1)
    assert [has_bf16(torch.device("cuda", index)) for index in (0, 1)] == [False, True]
