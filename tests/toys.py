"""Small models and jobs for tests of the harness itself."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from genbench import Model, Phase, field
from genbench.metering.meter import Meter
from genbench.records.budget import Budget
from genbench.records.job import Job, Runtime
from genbench.records.record import PluginStamp


class Toy(Model):
    """A mean image, learned by one optimizer; draws noise in its loss, so that seeding shows."""

    name = "toy"

    class Config(Model.Config):
        steps: int = field(3, "sample", "steps that change the samples", ge=1)

    def __init__(self, data, config):
        super().__init__(data, config)
        self.mean = nn.Parameter(torch.zeros(data.shape))
        self.register_buffer("seen", torch.zeros(()))

    def loss(self, phase, batch):
        self.seen += len(batch)
        noise = torch.randn_like(batch.images)
        return {"loss": (batch.images + 0.1 * noise - self.mean).square().mean(), "noise": noise.mean()}

    def sample(self, n, labels=None):
        shift = 0 if labels is None else labels[:, None, None, None].float() / 10
        return self.mean + 0.1 / self.config.steps * torch.randn(n, *self.data.shape) + shift


class TwoPhases(Model):
    """Two modules, one after the other, and a scale that the second needs from data."""

    name = "two"

    def __init__(self, data, config):
        super().__init__(data, config)
        self.first, self.second = nn.Linear(data.dims, 4), nn.Linear(4, 4)
        self.register_buffer("scale", torch.zeros(()))
        self.calls = []

    def phases(self):
        def sgd(module):
            return torch.optim.SGD(module.parameters(), lr=0.1)

        return [
            Phase("first", self.first, sgd(self.first), span=(0.0, 0.5)),
            Phase("second", self.second, sgd(self.second), repeats=2, span=(0.5, 1.0)),
        ]

    def prepare(self, phase, batch):
        self.calls.append(phase)
        if phase == "second":
            self.scale.fill_(self.first(batch.images.flatten(1)).std().item())

    def loss(self, phase, batch):
        hidden = self.first(batch.images.flatten(1))
        return hidden.square().mean() if phase == "first" else (self.second(hidden / self.scale) - 1).square().mean()

    def sample(self, n, labels=None):
        return torch.zeros(n, *self.data.shape)


def toy_job(folder, model=Toy, budget="20steps", **changes) -> Job:
    config = model.Config(batch_size=8)
    plain = {
        "model": model.name, "label": model.name, "plugin": PluginStamp(name="toy", version="1", digest="d"),
        "config": config.model_dump(mode="json"), "train_config": config.of_role("train"),
        "sample_config": config.of_role("sample"), "dataset": "digits", "dataset_digest": "x",
        "budget": Budget.parse(budget), "samples": 20, "runtime": Runtime(out=folder, cache=folder / "cache"),
    }  # fmt: skip
    return Job(**(plain | changes))


def build(job, data, model=Toy):
    torch.manual_seed(job.seed)
    return model(data.spec(job.conditional), model.Config(**job.config))


class Killed(Exception):
    """What ends a training that is killed."""


@contextmanager
def killed_at(step, monkeypatch):
    """The training in this block dies once it has taken so many steps."""
    from genbench.training.loop import Trainer

    whole = Trainer.step

    def dying(self, progress):
        if self.meter.steps == step:
            raise Killed
        whole(self, progress)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "step", dying)
        yield


def train_toy(folder, data, model=Toy, meter=None, built=None, **changes):
    """A toy after training, and its meter."""
    from genbench.training.train import train

    job = toy_job(folder, model, **changes)
    job.folder.mkdir(parents=True, exist_ok=True)
    meter = meter or Meter(torch.device("cpu"))
    with meter.training():
        return train(job, built or build(job, data, model), data, job.folder, meter), meter
