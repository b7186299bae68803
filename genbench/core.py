"""The core as a plugin: the default train, sample and evaluate, called last, and the cost meter round them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

from genbench.hookspecs import hookimpl

if TYPE_CHECKING:
    from genbench.cost import Meter
    from genbench.data import Dataset
    from genbench.executors import Executor
    from genbench.model import Model
    from genbench.planning.plan import Job
    from genbench.plugins import Plugins
    from genbench.records import Measurement
    from genbench.sample import Samples


class Defaults:
    """What happens to a model whose plugin implements no verb itself."""

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins

    @hookimpl
    def register_executors(self, register: Callable[[str, Callable[[], Executor]], None]) -> None:
        from genbench.executors.local import Local
        from genbench.executors.ray import RayCluster

        register("local", Local)
        register("ray", RayCluster)

    @hookimpl(trylast=True)
    def train(self, job: Job, model: Model, data: Dataset, folder: Path, meter: Meter) -> Model:
        from genbench.train import train

        return train(job, model, data, folder, meter)

    @hookimpl(trylast=True)
    def sample(self, job: Job, model: Model, data: Dataset, folder: Path, meter: Meter) -> Samples:
        from genbench.sample import sample

        return sample(job, model, data, folder, meter)

    @hookimpl(trylast=True)
    def evaluate(self, job: Job, model: Model | None, samples: Samples, data: Dataset) -> list[Measurement]:
        from genbench.evaluate.likelihood import likelihood_measurements
        from genbench.references import reference_measurements, sample_measurements

        measure = reference_measurements if job.is_reference else sample_measurements
        measurements = measure(job, samples, data, self.plugins)
        return measurements if model is None else [*measurements, *likelihood_measurements(job, model, data)]


class CostMeter:
    """Meters every model, also one that takes over its own training, and also one that fails."""

    @hookimpl(wrapper=True)
    def train(self, meter: Meter) -> Generator[None, Model, Model]:
        with meter.training():
            return (yield)

    @hookimpl(wrapper=True)
    def sample(self, meter: Meter) -> Generator[None, Samples, Samples]:
        with meter.sampling():
            return (yield)


def register(plugins: Plugins) -> None:
    """Add the core's hooks to the plugins' manager."""
    plugins.add_core(Defaults(plugins), "genbench defaults")
    plugins.add_core(CostMeter(), "genbench cost")
