"""The core as a plugin: the default train, sample and evaluate, called last, and the cost meter around them."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from genbench.extension.loading import load_into
from genbench.extension.registry import Plugins
from genbench.hookspecs import hookimpl

if TYPE_CHECKING:
    from genbench.data.dataset import Dataset
    from genbench.metering.meter import Meter
    from genbench.metering.progress_log import ProgressLog
    from genbench.model import Model
    from genbench.records.job import Job
    from genbench.records.record import Measurement
    from genbench.records.samples import Samples


class Defaults:
    """The hooks for a model whose plugin does not implement them."""

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins

    @hookimpl(trylast=True)
    def train(self, job: Job, model: Model, data: Dataset, folder: Path, meter: Meter, log: ProgressLog) -> Model:
        from genbench.training.train import train

        return train(job, model, data, folder, meter, log)

    @hookimpl(trylast=True)
    def sample(self, job: Job, model: Model, data: Dataset, folder: Path, meter: Meter) -> Samples:
        from genbench.running.sample import sample

        return sample(job, model, data, folder, meter)

    @hookimpl(trylast=True)
    def evaluate(self, job: Job, model: Model | None, samples: Samples | None, data: Dataset) -> list[Measurement]:
        from genbench.evaluate.answers import answer_measurements
        from genbench.evaluate.classification import classification_measurements
        from genbench.evaluate.copies import copy_measurements
        from genbench.evaluate.judges import alignment_measurements
        from genbench.evaluate.likelihood import likelihood_measurements
        from genbench.evaluate.reconstruction import reconstruction_measurements
        from genbench.evaluate.samples import sample_measurements
        from genbench.running.references import compared_images, reference_measurements

        measure = reference_measurements if job.is_reference else sample_measurements
        found = [] if samples is None else measure(job, samples, data, self.plugins)
        if samples is not None:
            found += answer_measurements(job, samples, data)
            found += alignment_measurements(job, samples, data)
            found += copy_measurements(job, compared_images(job, samples, data), data)
        if model is not None:
            found += likelihood_measurements(job, model, data, samples)
            found += reconstruction_measurements(job, model, data, self.plugins)
            found += classification_measurements(job, model, data)
        return found


class CostMeter:
    """Meters every model, including one that trains itself or fails."""

    @hookimpl(wrapper=True)
    def train(self, meter: Meter) -> Generator[None, Model, Model]:
        with meter.training():
            return (yield)

    @hookimpl(wrapper=True)
    def sample(self, meter: Meter) -> Generator[None, Samples, Samples]:
        with meter.sampling():
            return (yield)


def load_plugins(files: Iterable[str] = ()) -> Plugins:
    """All plugins: the core's hooks (called last), every installed entry point, and the given files or packages."""
    plugins = Plugins()
    plugins.add_core(Defaults(plugins), "genbench defaults")
    plugins.add_core(CostMeter(), "genbench cost")
    return load_into(plugins, files)
