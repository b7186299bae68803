"""Every registered model keeps every promise; and the kit finds the models that do not."""

import random

import numpy as np
import pytest
import torch
from toys import Toy, TwoPhases

from genbench.capabilities import Likelihood
from genbench.plugins import load_plugins
from genbench.testing import PROMISES, Case, cases, check_case, check_model
from genbench_ddpm import DDPM
from genbench_ldm import LatentDiffusion


def shipped():
    plugins = load_plugins()
    return [plugins.model(name)[0] for name in plugins.model_names]


@pytest.mark.parametrize("model", shipped(), ids=lambda model: model.name)
def test_shipped_models(model):
    check_model(model)


OBJECTIVES = {
    "simple": {"objective": "simple"},
    "variational": {"objective": "variational"},
    "variational, learned variance": {"objective": "variational", "variance": "learned"},
    "hybrid": {"objective": "hybrid", "variance": "learned", "sampler": "ancestral"},
    "guided": {"label_dropout": 0.2, "guidance": 2.0},
    "cross-attention": {"context": 8, "head_channels": 4},
}


def objectives_and_predictions():
    """Every pair; the quick look has the rows and columns of the defaults."""
    for objective in OBJECTIVES:
        for prediction in ("eps", "x0", "v", "mean"):
            slow = [] if objective == "simple" or prediction == "v" else [pytest.mark.slow]
            yield pytest.param(OBJECTIVES[objective], prediction, marks=slow, id=f"{objective}-{prediction}")


@pytest.mark.parametrize(("objective", "prediction"), list(objectives_and_predictions()))
@pytest.mark.parametrize("model", [DDPM, LatentDiffusion], ids=lambda model: model.name)
def test_every_objective_and_prediction_of_diffusion(model, objective, prediction):
    few = {"batch_size": 8, "timesteps": 8, "steps": 2, "bound_exact": 1, "bound_strata": 2}
    config = model.Config(**model.presets["tiny"] | few | objective | {"prediction": prediction})
    faults = check_case(Case(model, config, (1, 8, 8), conditional=True))
    assert not any(faults.values()), {text: fault for text, fault in faults.items() if fault}


BATCH_NORM = {"norm": "batch", "ema_decay": 0.0}
VARIATIONAL = {"dequantization": "variational"}
VARIANTS = {
    "gan": [
        {"loss": "non_saturating"},
        {"loss": "wasserstein", "spectral_norm": False},
        {"critic_steps": 2, "patch": 1, "base": 4},
        BATCH_NORM,
        {"network": "residual"},
        {"network": "residual", "patch": 1, "base": 4, **BATCH_NORM},
    ],
    "vae": [{"likelihood": "gaussian"}, {"likelihood": "gaussian", "draw": True}, {"beta": 0.5, "iwae": 1}],
    "flow": [
        {"coupling": "affine"},
        {"mixing": "conv"},
        {"mixing": "conv", "coupling": "affine", "front": "linear"},
        {"front": "linear"},
        VARIATIONAL,
        {"mixing": "conv", "coupling": "affine", **VARIATIONAL},
    ],
}


@pytest.mark.parametrize(
    ("name", "change"),
    [(name, change) for name, changes in VARIANTS.items() for change in changes],
    ids=lambda value: value if isinstance(value, str) else ",".join(f"{k}={v}" for k, v in value.items()),
)
def test_shipped_models_with_other_options(name, change):
    check_model(load_plugins().model(name)[0], **change)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("gan", "small"),
        ("gan", "paper"),
        ("vae", "small"),
        ("flow", "small"),
        ("flow", "affine"),
    ],
)
def test_larger_presets(name, preset):
    check_model(load_plugins().model(name)[0], preset)


COLOUR = {
    "gan": [{}, {"network": "residual", "patch": 1, "base": 4, **BATCH_NORM}],
    "vae": [{}, {"likelihood": "gaussian"}],
    "flow": [{}, {"mixing": "conv", "coupling": "affine", "front": "linear", "levels": 3}, VARIATIONAL],
}


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(("name", "change"), [(name, change) for name in COLOUR for change in COLOUR[name]])
def test_colour_images_of_32_x_32_train_like_any_other(name, change, conditional):
    """In the harness's own loop; the likelihood of what was trained on is better than before, where there is one."""
    model = load_plugins().model(name)[0]
    config = model.Config(**{**model.presets["tiny"], "batch_size": 8, **change})
    case = Case(model, config, (3, 32, 32), conditional)
    assert all(tensor.isfinite().all() for tensor in case.trained.state_dict().values())
    images = case.sample(case.trained)
    assert images.shape == (6, 3, 32, 32) and images.isfinite().all() and images.std() > 0
    if isinstance(case.trained, Likelihood):
        before, after = (case.log_prob(m, case.batch.images, case.labels).mean() for m in (case.build(), case.trained))
        assert after > before


def test_all_six_are_registered():
    assert {"ddpm", "ldm", "gan", "vae", "flow", "gaussian"} <= {model.name for model in shipped()}


def test_toys():
    check_model(Toy)


class WrongShape(Toy):
    def sample(self, n, labels=None):
        return super().sample(n, labels)[:, :, 1:]


class NotFinite(Toy):
    def sample(self, n, labels=None):
        return super().sample(n, labels) / 0


class ForeignGenerator(Toy):
    def sample(self, n, labels=None):
        random.random()
        return super().sample(n, labels)


class NumpyGenerator(Toy):
    def sample(self, n, labels=None):
        return super().sample(n, labels) + float(np.random.rand())


class Reseeds(Toy):
    def sample(self, n, labels=None):
        torch.manual_seed(0)
        return super().sample(n, labels)


class Forgets(Toy):
    def __init__(self, data, config):
        super().__init__(data, config)
        self.shift = float(torch.rand(()))

    def sample(self, n, labels=None):
        return super().sample(n, labels) + self.shift


class IgnoresLabels(Toy):
    conditional = True

    def sample(self, n, labels=None):
        return super().sample(n, None)


class NoDensity(Toy):
    def log_prob(self, images, labels=None):
        return torch.zeros(len(images)) * images.flatten(1).sum(1)


class PartsMissing(Toy):
    def bound_terms(self, images, labels=None):
        return {"L_T": torch.ones(len(images)), "L_0": torch.ones(len(images))}

    def log_prob(self, images, labels=None):
        return -3 * torch.ones(len(images))


class BatchDependent(Toy):
    def log_prob(self, images, labels=None):
        return (images - images.mean(0)).flatten(1).square().sum(1) - 1e4


class IdleParameter(Toy):
    def __init__(self, data, config):
        super().__init__(data, config)
        self.idle = torch.nn.Parameter(torch.zeros(2))


class NoLoss(Toy):
    def loss(self, phase, batch):
        return batch.images.mean()


BROKEN = {
    WrongShape: "samples have the right shape and are finite",
    NotFinite: "samples have the right shape and are finite",
    ForeignGenerator: "no other generator is touched",
    NumpyGenerator: "no other generator is touched",
    Reseeds: "samples depend on the seed and on nothing else",
    Forgets: "state survives saving, loading and copying",
    IgnoresLabels: "labels are used where the job is conditional",
    NoDensity: "a density integrates to one at most",
    PartsMissing: "the parts of a bound sum to it",
    BatchDependent: "an exact likelihood does not depend on the batch",
    IdleParameter: "every parameter belongs to a phase and gets a gradient",
    NoLoss: "every phase gives a finite scalar loss",
}


@pytest.mark.parametrize("model", BROKEN, ids=lambda model: model.__name__)
def test_the_kit_finds(model):
    *_, case = cases(model)
    found = check_case(case)
    assert found[BROKEN[model]], f"not found; it found {[text for text, fault in found.items() if fault]}"
    with pytest.raises(AssertionError):
        check_model(model)


def test_every_promise_has_a_model_that_breaks_it_or_is_broken_in_the_loop_tests():
    tested = {
        *BROKEN.values(),
        "a likelihood is finite and of the right shape",
        "every option says what changing it invalidates",
    }
    loop = {"training leaves finite weights, and the same ones twice", "training moves every phase's module"}
    assert set(PROMISES) == tested | loop


def test_two_phases_end_to_end():
    *_, case = cases(TwoPhases)
    found = check_case(case)
    assert {text for text, fault in found.items() if fault} <= {"samples depend on the seed and on nothing else"}
