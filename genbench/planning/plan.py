"""The plan: experiment x models x datasets x seeds -> jobs; every error that can be found before a device is used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from genbench.condition import OPEN, Kind
from genbench.data.dataset import Dataset
from genbench.evaluate.extractors import extractor_names, extractor_stamps
from genbench.extension.registry import PluginInfo, Plugins
from genbench.planning.config import Experiment, ModelChoice, configure
from genbench.records.job import Job, Runtime
from genbench.records.protocol import EvaluationSettings
from genbench.records.record import ALWAYS, REFERENCES, PluginStamp
from genbench.support.errors import BadInput

if TYPE_CHECKING:
    from genbench.model import Config, Model


def default_samples(dataset: Dataset) -> int:
    """min(10,000, test images), so that every row of a dataset has the same count."""
    return min(10_000, len(dataset.test))


def make_jobs(everywhere: Experiment, plugins: Plugins, datasets: Iterable[Dataset], runtime: Runtime) -> list[Job]:
    """The jobs of an experiment, reference rows last. Raises BadInput for what cannot run, before anything does."""
    jobs: list[Job] = []
    for dataset in datasets:
        experiment = everywhere.on(dataset.conditions)
        references = reference_jobs(experiment, plugins, dataset, runtime)
        for choice in experiment.models:
            jobs += [model_job(choice, seed, experiment, plugins, dataset, references[0]) for seed in experiment.seeds]
        jobs += references + answered_jobs(experiment, dataset, references[0])
    _check_apart(jobs)
    return jobs


def _check_apart(jobs: Iterable[Job]) -> None:
    """Refuse two rows of one label that were to be told apart by their conditions, of which the model takes none."""
    seen = set()
    for job in jobs:
        row = job.label.lower(), job.kind, job.dataset, job.seed
        if row in seen:
            told = f"model {job.label!r}: two rows of this label, neither of which is given labels, since"
            raise BadInput(f"{told} {job.model!r} takes none", "give each its own `label`, or leave one out")
        seen.add(row)


def reference_jobs(experiment: Experiment, plugins: Plugins, dataset: Dataset, runtime: Runtime) -> list[Job]:
    """The rows without a model, scored like the experiment's models on this dataset."""
    samples = experiment.samples or default_samples(dataset)
    check_samples(samples, dataset)
    evaluation = EvaluationSettings(
        extractors=extractor_names(experiment.extractors, dataset),
        allow_rank_deficient=experiment.allow_rank_deficient,
        likelihood_images=experiment.likelihood_images,
    )
    stamps = extractor_stamps(evaluation.extractors, plugins.registered("register_extractors"))
    return [
        Job(
            model=name, label=name, plugin=PluginStamp(name="genbench", version=""), dataset=dataset.name,
            dataset_digest=dataset.digest, tune=dataset.tuning, samples=samples, budget=experiment.budget,
            evaluation=evaluation, extractor_stamps=stamps, measurers=plugins.measurers(), runtime=runtime,
        )
        for name in ALWAYS
    ]  # fmt: skip


def answered_jobs(experiment: Experiment, dataset: Dataset, reference: Job) -> list[Job]:
    """The rows without a model that answer the conditions of the models, otherwise like a reference row."""
    from genbench.running.answers import answers_of

    return [
        Job(**dict(reference) | {"model": name, "label": name, "conditional": True, "condition": condition})
        for kind in experiment.kinds
        if kind in OPEN and (condition := dataset.condition(kind)) is not None
        for name in answers_of(dataset, kind)
    ]


def model_job(
    choice: ModelChoice, seed: int, experiment: Experiment, plugins: Plugins, dataset: Dataset, reference: Job
) -> Job:  # fmt: skip
    """A model's job on the dataset, and under the protocol, of a reference row."""
    import torch

    from genbench.devices import resolve_precision

    model, info = plugins.model(choice.name)
    if choice.name in REFERENCES or choice.label in REFERENCES:
        raise BadInput(f"model {choice.label!r}: the name is reserved for a reference row", "choose another label")
    draws = _check_methods(choice, model, info, plugins)
    config, runtime = configure(model, choice), reference.runtime
    kind = _kind(choice, model, experiment.kind_of(choice))
    _check_flip(choice, config, kind, dataset)
    own = {
        "model": choice.name, "label": choice.label, "seed": seed, "config": config.model_dump(mode="json"),
        "train_config": config.of_role("train"), "sample_config": config.of_role("sample"),
        "conditional": kind is not None, "condition": dataset.condition(kind),
        "precision": resolve_precision(experiment.precision, torch.device(runtime.device), model.bf16),
        "compile": experiment.compile, "curve": experiment.curve, "tuning_trials": choice.tuning_trials,
        "plugin": info.stamp,
        "samples": reference.samples if draws else 0,
    }  # fmt: skip
    return Job(**dict(reference) | own)


SIDES = frozenset({"left", "right"})


def _check_flip(choice: ModelChoice, config: Config, kind: Kind | None, dataset: Dataset) -> None:
    """Raise BadInput if images were mirrored whose captions say what is left and what is right."""
    if config.flip and kind == "text" and (said := SIDES.intersection(dataset.words)):
        raise BadInput(
            f"model {choice.label!r}: flip mirrors images, but captions of {dataset.name} say {min(said)!r}",
            "set flip to false",
        )


def _check_methods(choice: ModelChoice, model: type[Model], info: PluginInfo, plugins: Plugins) -> bool:
    """Whether the model draws samples, by its method or by its plugin's hook.

    Raises BadInput if it cannot be trained, or has nothing to be scored by.
    """
    from genbench.capabilities import Codebook, Likelihood, Reconstruction, defines

    told = f"model {choice.label!r} of {info.origin}: {model.__qualname__} has no method"
    if not defines(model, "loss") and not plugins.owns("train", info):
        raise BadInput(f"{told} loss()", "write it, or the hook `train`")
    draws = defines(model, "sample") or plugins.owns("sample", info)
    scored = issubclass(model, Likelihood | Reconstruction | Codebook) or plugins.owns("evaluate", info)
    if not draws and not scored:
        hint = "write it, or the hook `sample`, or what can be scored without samples: log_prob() or reconstruct()"
        raise BadInput(f"{told} sample()", hint)
    return draws


def _kind(choice: ModelChoice, model: type[Model], asked: Kind | None) -> Kind | None:
    """The kind of condition that the model gets. Raises BadInput if it cannot take it, unless that is the class.

    In a class-conditional experiment, a model that takes no classes is left unconditional, unless its own row asks.
    """
    if asked is None or asked in model.kinds():
        return asked
    if asked == "class" and not choice.conditional and choice.condition is None:
        return None
    takes = " and ".join(model.kinds()) or "no condition"
    raise BadInput(
        f"model {choice.label!r} takes {takes}; the condition asked for is {asked}",
        f"list {asked!r} in its `conditions`, or leave the model out",
    )


def check_samples(samples: int, dataset: Dataset) -> None:
    """Raise BadInput if the row `real` cannot have so many."""
    count = len(dataset.train)
    if samples > count:
        where = f"--samples {samples}: dataset {dataset.name!r} has {count} training images, too few for the real row"
        raise BadInput(where, f"use at most {count}")
