"""A plugin as the documentation of API version 1 described it: kept as it was, so that such plugins go on running."""

# ruff: noqa: F401, I001
import numpy as np
import torch
from torch import nn

from genbench import (
    Batch,
    Config,
    DataSpec,
    Likelihood,
    Measurement,
    Model,
    Phase,
    adamw,
    field,
    hookimpl,
    warmup_cosine,
)
from genbench.capabilities import BoundTerms
from genbench.cost import Meter
from genbench.data import Dataset
from genbench.errors import EnvironmentProblem
from genbench.evaluate.extractors import Extractor, Features
from genbench.executors import Executor, Task, Work, run_by_command
from genbench.records import Record
from genbench.sample import Samples
from genbench.testing import check_model

genbench_api = 1


class Old(Model):
    """One level per pixel."""

    name = "old"
    conditional = True

    class Config(Config):
        spread: float = field(0.3, "sample", "noise of a sample", ge=0)

    def __init__(self, data: DataSpec, config: Config) -> None:
        super().__init__(data, config)
        self.mean = nn.Parameter(torch.zeros(max(1, data.num_classes), *data.shape))

    def phases(self) -> list[Phase]:
        return [Phase("train", self, adamw(self, self.config.learning_rate), schedule=warmup_cosine)]

    def of(self, labels, n):
        return self.mean[torch.zeros(n, dtype=torch.int64) if labels is None else labels]

    def loss(self, phase: str, batch: Batch) -> torch.Tensor:
        return (batch.images - self.of(batch.labels, len(batch))).square().mean()

    def log_prob(self, images, labels=None):
        return -(images - self.of(labels, len(images))).square().flatten(1).sum(1) - self.data.dims * np.log(2)

    def sample(self, n, labels=None):
        means = self.of(labels, n)
        return means + self.config.spread * torch.randn_like(means)


@hookimpl
def register_models(register):
    register(Old)


@hookimpl
def sample(job, model, data, folder, meter):
    """A verb of its own: every image twice."""
    if not isinstance(model, Old) or job.conditional:
        return None
    assert isinstance(meter, Meter) and isinstance(data, Dataset)
    levels = np.random.default_rng(job.seed).integers(0, 256, (job.samples, *data.shape), dtype=np.uint8)
    meter.sampled = len(levels)
    return Samples(levels, clamped_share=0.0, batch=len(levels), nfe=2)


@hookimpl
def evaluate(job, model, samples, data):
    settings = {"metric": "mean_level", "samples": len(samples), "dataset": data.digest}
    return [Measurement(metric="mean_level", value=float(samples.images.mean()), better="higher", settings=settings)]


@hookimpl
def job_finished(job, record):
    assert isinstance(record, Record)
    (job.folder / "seen.txt").write_text(record.status)
