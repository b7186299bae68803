"""The plan: experiment x models x datasets x seeds -> jobs; every error that can be found before the device starts."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from genbench import store
from genbench.config import Budget, Experiment, ModelChoice, model_config
from genbench.data import Dataset
from genbench.errors import BadInput, CorruptData
from genbench.evaluate.extractors import extractor_names, extractor_stamps
from genbench.evaluate.protocol import EvaluationSettings, versions
from genbench.plugins import PluginInfo, Plugins
from genbench.records import REFERENCES, PluginStamp

if TYPE_CHECKING:
    from genbench.model import Config, Model

TRAINING = 1
"""Version of the core's training; raise it when the same job would train to other weights."""
SAMPLING = 1
"""Version of the core's sampling; raise it when the same weights would give other samples."""


class Runtime(BaseModel):
    """Where and how a job runs: nothing here changes what it is, apart from what Job.identity takes from it."""

    model_config = ConfigDict(frozen=True)

    device: str = "cpu"
    peers: tuple[str, ...] = ()
    """Devices of the further processes that train the model together with this one."""
    threads: int = 1
    """CPU threads of the job; its processes divide them."""
    executor: str = "local"
    out: Path = Path("runs")
    cache: Path = Path(".cache")
    weights: Path | None = None
    offline: bool = False
    plugins: tuple[str, ...] = ()
    timeout: float | None = None
    hang_timeout: float | None = None
    """Seconds without any progress after which the job is ended; None for none."""

    @property
    def processes(self) -> int:
        return 1 + len(self.peers)

    @property
    def process_threads(self) -> int:
        """CPU threads of one of the processes."""
        return max(1, self.threads // self.processes)


class Job(BaseModel):
    """One model on one dataset with one seed; immutable, and equal in every process."""

    model_config = ConfigDict(frozen=True, ignored_types=(cached_property,))

    model: str
    label: str
    config: dict[str, Any] = {}
    train_config: dict[str, Any] = {}
    sample_config: dict[str, Any] = {}
    plugin: PluginStamp
    dataset: str
    dataset_digest: str
    conditional: bool = False
    seed: int = 0
    budget: Budget
    precision: str = "fp32"
    compile: bool = False
    samples: int
    evaluation: EvaluationSettings = EvaluationSettings()
    extractor_stamps: dict[str, str] = {}
    measurers: dict[str, str] = {}
    """The plugins that measure beside the core, each with the digest of its source."""
    curve: int = 0
    tuning_trials: int | None = None
    runtime: Runtime = Runtime()
    foreign: str = ""
    """The digest of samples made elsewhere; empty for a model that is trained here."""
    external_data: tuple[str, ...] = ()

    @property
    def is_reference(self) -> bool:
        """Whether this is `real` or `noise`, a row that no model stands behind."""
        return self.model in REFERENCES

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that training depends on, and nothing else: not the number of workers, not paths."""
        device = self.runtime.device.split(":")[0]
        config = {key: value for key, value in self.train_config.items() if (key, value) != ("micro_batch", 0)}
        return {
            "training": TRAINING, "model": self.model, "plugin": self.plugin.digest, "config": config,
            "dataset": self.dataset_digest, "conditional": self.conditional, "seed": self.seed,
            "budget": self.budget.as_dict(), "precision": self.precision, "device": device,
            "threads": self.runtime.threads if self.budget.unit == "seconds" else None,
            **({"compile": True} if self.compile else {}),
        }  # fmt: skip

    @cached_property
    def id(self) -> str:
        """The run folder's name: readable in front, the identity's digest behind."""
        if self.is_reference:
            key = store.settings_digest({"dataset": self.dataset_digest, "seed": self.seed, "model": self.model})
        elif self.foreign:
            key = store.settings_digest({"dataset": self.dataset_digest, "samples": self.foreign, "model": self.model})
        else:
            key = store.settings_digest(self.identity)
        conditional = "-cond" if self.conditional else ""
        return f"{self.label}-{self.dataset}{conditional}-seed{self.seed}-{key[:10]}"

    @cached_property
    def samples_key(self) -> str:
        """What the samples depend on beyond the weights: their number, the sampler, the label plan."""
        return store.settings_digest(
            {"sampling": SAMPLING, "count": self.samples, "config": self.sample_config, "conditional": self.conditional}
        )[:16]

    @cached_property
    def evaluation_key(self) -> str:
        """What the measurements depend on beyond samples and extractors: settings, versions of what measures.

        Each extractor has its own stamp, since each can be added alone.
        """
        from genbench.evaluate.likelihood import LIKELIHOOD

        behind = {"samples": self.samples_key, "likelihood": LIKELIHOOD, "versions": versions()}
        behind |= self.evaluation.model_dump(mode="json", exclude={"extractors"})
        return store.settings_digest(behind)[:16]

    @property
    def folder(self) -> Path:
        return self.runtime.out / self.id


def read_job(folder: Path) -> Job:
    """The job of a run folder. Raises CorruptData."""
    file = folder / "job.json"
    try:
        return Job.model_validate(store.read_json(file))
    except ValidationError as error:
        first = error.errors()[0]
        told = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
        raise CorruptData(f"{file}: not a job: {told}", "run the job again") from error


def default_samples(dataset: Dataset) -> int:
    """min(10,000, test images), so that every row of a dataset has the same count."""
    return min(10_000, len(dataset.test))


def make_jobs(experiment: Experiment, plugins: Plugins, datasets: Iterable[Dataset], runtime: Runtime) -> list[Job]:
    """The jobs of an experiment, reference rows last. Raises BadInput for what cannot run, before anything does."""
    jobs: list[Job] = []
    for dataset in datasets:
        samples = experiment.samples or default_samples(dataset)
        _check_samples(samples, dataset)
        evaluation = EvaluationSettings(
            extractors=extractor_names(experiment.extractors, dataset),
            allow_rank_deficient=experiment.allow_rank_deficient,
            likelihood_images=experiment.likelihood_images,
        )
        common: dict[str, Any] = {
            "dataset": dataset.name, "dataset_digest": dataset.digest, "samples": samples,
            "evaluation": evaluation, "runtime": runtime, "budget": experiment.budget,
            "extractor_stamps": extractor_stamps(evaluation.extractors, plugins.registered("register_extractors")),
            "measurers": plugins.measurers(),
        }  # fmt: skip
        for choice in experiment.models:
            jobs += [_model_job(choice, seed, experiment, plugins, dataset, common) for seed in experiment.seeds]
        stamp = PluginStamp(name="genbench", version="")
        jobs += [Job(model=name, label=name, plugin=stamp, **common) for name in REFERENCES]
    return jobs


def _model_job(
    choice: ModelChoice, seed: int, experiment: Experiment, plugins: Plugins, dataset: Dataset, common: dict[str, Any]
) -> Job:
    import torch

    from genbench.devices import resolve_precision

    model, info = plugins.model(choice.name)
    if choice.name in REFERENCES or choice.label in REFERENCES:
        raise BadInput(f"model {choice.label!r}: the name is that of a reference row", "choose another label")
    _check_methods(choice, model, info, plugins)
    config = model_config(model, choice)
    _check_pieces(choice, config, common["runtime"].processes)
    device = torch.device(common["runtime"].device)
    return Job(
        model=choice.name, label=choice.label, seed=seed, config=config.model_dump(mode="json"),
        train_config=config.of_role("train"), sample_config=config.of_role("sample"),
        conditional=experiment.conditional and model.conditional,
        precision=resolve_precision(experiment.precision, device, model.bf16), compile=experiment.compile,
        plugin=PluginStamp(name=info.name, version=info.version, digest=info.digest),
        curve=experiment.curve, tuning_trials=choice.tuning_trials,
        **common,
    )  # fmt: skip


def _check_methods(choice: ModelChoice, model: type[Model], info: PluginInfo, plugins: Plugins) -> None:
    """Refuse a model that has neither the method nor, in its plugin, the hook for a verb."""
    from genbench.model import Model as Base

    for verb, name in (("train", "loss"), ("sample", "sample")):
        method = getattr(model, name)
        missing = method is getattr(Base, name) or not callable(method)
        if missing and not plugins.owns(verb, info):
            told = f"model {choice.label!r} of {info.origin}: {model.__qualname__} has no method {name}()"
            raise BadInput(told, f"write it, or the hook `{verb}`")


def _check_pieces(choice: ModelChoice, config: Config, processes: int) -> None:
    size, count = config.pieces
    if count % processes == 0:
        return
    what = f"its batches of {config.batch_size} are computed in {count} piece{'s'[: count > 1]} of {size} images"
    if config.batch_size % processes == 0:
        hint = f"give each process a piece: --set {choice.label}.micro_batch={config.batch_size // processes}"
    else:
        hint = f"set a batch_size that {processes} divides, and a micro_batch that deals it out"
    raise BadInput(f"model {choice.label!r}: {what}, which {processes} processes cannot share alike", hint)


def _check_samples(samples: int, dataset: Dataset) -> None:
    count = len(dataset.train)
    if samples > count:
        where = f"--samples {samples}: dataset {dataset.name!r} has {count} training images, too few for the real row"
        raise BadInput(where, f"use at most {count}")
