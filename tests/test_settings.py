"""Every setting is classified: what it changes, and so what must be made anew, is said here and seen in the keys.

A field that is missing below fails the first test: decide whether its change asks for other weights (`training`), only
for other samples (`samples`), only for other measurements (`evaluation`), for those of one extractor (`extractor`), for
weights kept along the training (`curve`), or for nothing (`runtime`).
"""

import typing
from pathlib import Path

import pytest
import torch
from toys import toy_job

from genbench import Batch, ConditionSpec, DataSpec
from genbench.images import dequantize, to_float
from genbench.planning.config import Experiment, ModelChoice
from genbench.planning.plan import make_jobs
from genbench.records.budget import Budget
from genbench.records.job import Job, Runtime
from genbench.records.protocol import EvaluationSettings
from genbench.records.record import PluginStamp
from genbench.running.defaults import load_plugins
from genbench.support import digests

KEYS = {
    "training": {"id"},
    "samples": {"samples_key", "evaluation_key"},
    "evaluation": {"evaluation_key"},
    "extractor": set(),  # what measures is compared apart, by `rescore.missing_extractors`
    "curve": set(),  # kept along a training that it does not change
    "runtime": set(),
}
OTHER_STAMP = PluginStamp(name="toy", version="1", digest="other")
JOB = {
    "model": ("training", "other"),
    "label": ("training", "other"),
    "config": ("runtime", {"batch_size": 9}),  # what counts of it is in the next two
    "train_config": ("training", {"batch_size": 9}),
    "sample_config": ("samples", {"steps": 9}),
    "plugin": ("training", OTHER_STAMP),
    "dataset": ("training", "other"),
    "dataset_digest": ("training", "other"),
    "tune": ("training", True),  # told in the id: the digest is another one too
    "conditional": ("training", True),
    "condition": ("training", ConditionSpec("vector", (3,))),
    "seed": ("training", 7),
    "budget": ("training", Budget.parse("21steps")),
    "precision": ("training", "bf16"),
    "compile": ("training", True),
    "samples": ("samples", 21),
    "evaluation": ("evaluation", EvaluationSettings(k=5)),
    "extractor_stamps": ("extractor", {"local-classifier": "other"}),
    "measurers": ("extractor", {"symmetry": "other"}),
    "curve": ("curve", 4),
    "tuning_trials": ("runtime", 3),  # told in the record, which is written again
    "foreign": ("training", "other"),
    "external_data": ("runtime", ("elsewhere",)),
    "command": ("runtime", ("genbench", "run")),  # other words may make the same job
    "runtime": ("runtime", Runtime(cache=Path("elsewhere"))),
}
RUNTIME = {
    "device": ("training", "cuda:0"),
    "peers": ("runtime", ("cpu", "cpu")),
    "threads": ("runtime", 8),
    "executor": ("runtime", "ray"),
    "out": ("runtime", Path("elsewhere")),
    "cache": ("runtime", Path("elsewhere")),
    "weights": ("runtime", Path("elsewhere")),
    "offline": ("runtime", True),
    "plugins": ("runtime", ("mine.py",)),
    "timeout": ("runtime", 5.0),
    "hang_timeout": ("runtime", 5.0),
}
EVALUATION = {
    "extractors": ("extractor", ("vgg16",)),
    "k": ("evaluation", 5),
    "isc_splits": ("evaluation", 5),
    "kid_subsets": ("evaluation", 5),
    "error_splits": ("evaluation", 5),
    "seed": ("evaluation", 5),
    "allow_rank_deficient": ("evaluation", True),
    "likelihood_images": ("evaluation", 5),
    "max_train_reference": ("evaluation", 5),
}
EXPERIMENT = {
    "title": ("runtime", "All of them"),  # of the suite, in lists of suites
    "models": ("training", (ModelChoice(name="gaussian", config={"batch_size": 9}),)),
    "datasets": ("runtime", ("mnist5k",)),  # opened by the session: a job has its dataset's name and digest
    "seeds": ("training", (7,)),
    "budget": ("training", "21steps"),
    "samples": ("samples", 21),
    "conditional": ("runtime", True),  # `gaussian` cannot be; see Job.conditional
    "condition": ("runtime", "class"),
    "precision": ("training", "bf16"),
    "compile": ("training", True),
    "extractors": ("extractor", ("local-classifier",)),
    "likelihood_images": ("evaluation", 5),
    "allow_rank_deficient": ("evaluation", True),
    "curve": ("curve", 4),
    "plugins": ("runtime", ("mine.py",)),  # loaded by the session: a job has its plugin's digest
    "tune": ("runtime", True),  # opened by the session: a job has its dataset's digest
}
TABLES = {Job: JOB, Runtime: RUNTIME, EvaluationSettings: EVALUATION, Experiment: EXPERIMENT}


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.__name__)
def test_every_setting_is_classified(kind):
    new, gone = set(kind.model_fields) - set(TABLES[kind]), set(TABLES[kind]) - set(kind.model_fields)
    assert not new, f"{kind.__name__}: classify {', '.join(sorted(new))} in {Path(__file__).name}"
    assert not gone, f"{kind.__name__}: there is no {', '.join(sorted(gone))} any more"


def keys(job):
    return {"id": job.id, "samples_key": job.samples_key, "evaluation_key": job.evaluation_key}


def moved(before, after):
    """The keys that differ; other weights need no key of their samples, which lie in another folder."""
    changed = {name for name, value in keys(before).items() if keys(after)[name] != value}
    return {"id"} if "id" in changed else changed


@pytest.mark.parametrize("name", JOB)
def test_a_changed_job_has_other_keys_where_it_should(name, tmp_path):
    kind, value = JOB[name]
    assert getattr(toy_job(tmp_path), name) != value
    assert moved(toy_job(tmp_path), Job(**{**dict(toy_job(tmp_path)), name: value})) == KEYS[kind]


@pytest.mark.parametrize("name", RUNTIME)
def test_a_changed_runtime_is_the_same_job(name, tmp_path):
    kind, value = RUNTIME[name]
    assert getattr(Runtime(), name) != value
    jobs = [toy_job(tmp_path, runtime=Runtime(**change)) for change in ({}, {name: value})]
    assert moved(*jobs) == KEYS[kind]


def test_devices_of_one_kind_are_one_and_threads_count_only_for_a_budget_in_seconds(tmp_path):
    first, second = (toy_job(tmp_path, runtime=Runtime(device=device)) for device in ("cuda:0", "cuda:1"))
    assert moved(first, second) == set()
    timed = [toy_job(tmp_path, budget="9s", runtime=Runtime(threads=threads)) for threads in (1, 2)]
    assert moved(*timed) == KEYS["training"]


@pytest.mark.parametrize("name", EVALUATION)
def test_a_changed_measurement_is_made_anew_without_training_or_sampling(name, tmp_path):
    kind, value = EVALUATION[name]
    assert getattr(EvaluationSettings(), name) != value
    jobs = [toy_job(tmp_path, evaluation=EvaluationSettings(**change)) for change in ({}, {name: value})]
    assert moved(*jobs) == KEYS[kind]


@pytest.mark.parametrize("name", EXPERIMENT)
def test_a_changed_experiment_makes_other_jobs_where_it_should(name, digits, tmp_path):
    kind, value = EXPERIMENT[name]
    plain = {"models": ({"name": "gaussian"},), "budget": "20steps", "samples": 20, "datasets": ("digits",)}
    plain |= {"precision": "fp32"}
    assert plain.get(name) != value
    jobs = [
        make_jobs(Experiment.model_validate(words), load_plugins(), [digits], Runtime(out=tmp_path))[0]
        for words in (plain, plain | {name: value})
    ]
    assert moved(*jobs) == KEYS[kind]


def test_what_is_not_used_is_not_in_the_identity(tmp_path):
    """So that runs made before there was such a setting are still the same jobs."""
    job = toy_job(tmp_path)
    assert "compile" not in job.identity and not {"micro_batch", "flip"} & set(job.identity["config"])


def test_the_seed_is_in_the_identity_itself(tmp_path):
    """Not only in the readable part of the folder's name."""
    found = [digests.settings_digest(toy_job(tmp_path, seed=seed).identity) for seed in (0, 1)]
    assert found[0] != found[1]


# Models


MODELS = [load_plugins().model(name)[0] for name in load_plugins().model_names]
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)


def tiny(model, **change):
    return model.Config(**{**model.presets.get("tiny", {}), "batch_size": 8, **change})


def another(annotation, value):
    """A value of a field's type that is not the one it has."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float) and not typing.get_args(annotation):
        return value + 1 if isinstance(value, int) else value / 2 or 0.25
    if isinstance(value, tuple):
        return (*value, 1) if ... in typing.get_args(annotation) else value[::-1]
    return next(other for other in typing.get_args(annotation) if other != value)


@each_model
def test_every_option_of_a_model_makes_other_weights_or_other_samples_as_its_role_says(model, tmp_path):
    def job(config):
        roles = {f"{role}_config": config.of_role(role) for role in ("train", "sample")}
        return toy_job(tmp_path, config=config.model_dump(mode="json"), **roles)

    config = tiny(model)
    kinds = {"train": "training", "sample": "samples", "runtime": "runtime"}
    for name, info in model.Config.model_fields.items():
        changed = config.model_copy(update={name: another(info.annotation, getattr(config, name))})
        assert moved(job(config), job(changed)) == KEYS[kinds[config.role(name)]], name


@each_model
def test_an_option_of_sampling_leaves_the_training_alone(model):
    """To the bit: the start, and every loss. Weights are kept when it changes."""
    config, data = tiny(model), DataSpec("toy", (1, 8, 8), 3 if model.conditional else 0)
    wanted = first_losses(model(data, config))
    for name, info in model.Config.model_fields.items():
        if config.role(name) != "train":
            other = config.model_copy(update={name: another(info.annotation, getattr(config, name))})
            assert first_losses(model(data, other)) == wanted, name


def first_losses(model):
    """The losses of all phases from a seeded start."""
    torch.manual_seed(0)
    model = type(model)(model.data, model.config)
    levels = torch.randint(0, 256, (8, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    images = to_float(levels) if model.discrete else dequantize(levels, torch.Generator().manual_seed(2))
    batch = Batch(images, torch.arange(8) % 3 if model.data.num_classes else None)
    found = []
    for phase in model.phases():
        model.prepare(phase.name, batch)
        torch.manual_seed(3)
        loss = model.loss(phase.name, batch)
        found.append(float((loss["loss"] if isinstance(loss, dict) else loss).detach()))
    return found
