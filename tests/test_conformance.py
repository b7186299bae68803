"""Every registered model keeps every promise, with any of its options; tests/test_promises.py has those that do not."""

import pytest
from shipped import ONE_BY_ONE
from toys import Toy

from genbench.capabilities import Likelihood
from genbench.conformance.case import Case, cases
from genbench.conformance.verdicts import check_case
from genbench.running.defaults import load_plugins
from genbench.testing import check_model
from genbench_ddpm import DDPM
from genbench_ldm import LatentDiffusion


def shipped():
    plugins = load_plugins()
    return [plugins.model(name)[0] for name in plugins.model_names]


LONG = (*ONE_BY_ONE, "cascade", "flow_matching", "flow", "score", "ldm", "ddpm")
"""Models that draw one sub-pixel after another, in two stages, or in many steps: their kit takes long."""


@pytest.mark.parametrize(
    "model",
    [pytest.param(model, marks=[pytest.mark.slow] * (model.name in LONG), id=model.name) for model in shipped()],
)
def test_shipped_models(model):
    check_model(model)


def broken(*tried):
    """The promises that are broken in these cases."""
    return [verdict for case in tried for verdict in check_case(case) if verdict.state == "FAIL"]


def in_gray(model, preset=None, **options):
    """The cases without colour images, which take longest: a model is tried on those as shipped."""
    return [case for case in cases(model, preset, **options) if case.shape[0] == 1]


def broken_at_size(model, preset, **options):
    """In the last case alone, with labels where there are any: what depends on no size is tried with `tiny`."""
    return broken(in_gray(model, preset, **options)[-1])


LEARNED = {"objective": "hybrid", "variance": "learned"}
CLASSIFIER = {"classifier": True, "classifier_share": 0.5, "classifier_scale": 2.0}
OBJECTIVES = {
    "simple": {"objective": "simple"},
    "variational": {"objective": "variational"},
    "variational, learned variance": {"objective": "variational", "variance": "learned"},
    "hybrid": {**LEARNED, "sampler": "ancestral"},
    "guided": {"label_dropout": 0.2, "guidance": 2.0},
    "cross-attention": {"context": 8, "head_channels": 4},
    "classifier": {**LEARNED, **CLASSIFIER, "sampler": "respaced"},
}


PREDICTIONS = ("eps", "x0", "v", "mean", "shift")


def objectives_and_predictions():
    """Every pair; the quick look has each objective once, with the predictions in turn."""
    for place, objective in enumerate(OBJECTIVES):
        for prediction in PREDICTIONS:
            slow = [] if prediction == PREDICTIONS[place % len(PREDICTIONS)] else [pytest.mark.slow]
            yield pytest.param(OBJECTIVES[objective], prediction, marks=slow, id=f"{objective}-{prediction}")


@pytest.mark.parametrize(("objective", "prediction"), list(objectives_and_predictions()))
@pytest.mark.parametrize("model", [DDPM, LatentDiffusion], ids=lambda model: model.name)
def test_every_objective_and_prediction_of_diffusion(model, objective, prediction):
    few = {"batch_size": 8, "timesteps": 8, "steps": 2, "bound_exact": 1, "bound_strata": 2}
    config = model.Config(**model.presets["tiny"] | few | objective | {"prediction": prediction})
    assert broken(Case(model, config, (1, 8, 8), "class")) == []


BATCH_NORM = {"norm": "batch", "ema_decay": 0.0}
SPECTRAL_NORM = {"generator_spectral_norm": True}
VARIATIONAL = {"dequantization": "variational"}
ORIGINAL = {"network": "original", "schedule": "erase", "prediction": "shift", "variance": "free"}
CODEBOOK = {"first_stage": "vq", "codes": 16, "revive": 2}
VARIANTS = {
    "ldm": [{**CODEBOOK}, {**CODEBOOK, "adversarial": 0.5, "critic_layers": 1, "critic_width": 8, "ae_share": 0.5}],
    "vqgan": [
        {"adversarial": 0.0, "ae_form": "kl", "ae_attention": True, "ae_widths": (8, 8), "factor": 4},
        {"revive": 0, "critic_start": 1e-6, "codebook_weight": 0.25, "commitment": 1.0, "optimizer": "muon"},
    ],
    "ddpm": [{**ORIGINAL, "objective": "variational", "dense_width": 32}],
    "cascade": [{"factor": 4, "augmentation": 0.3, "small_noise": 0.1, "base_share": 0.3, "optimizer": "muon"}],
    "score": [
        {"conditioning": "division", "steps": 2, "denoise": False},
        {"conditioning": "embedding", "network": "refinenet", "width": 2, "levels": 3, "dequantize": True},
        {"conditioning": "division", "network": "refinenet", "width": 2, "levels": 3},
    ],
    "flow_matching": [
        {"times": "uniform", "fourier": (), "solver": "euler"},
        {"solver": "heun", "likelihood_steps": 5},
    ],
    "gan": [
        {"loss": "non_saturating"},
        {"loss": "wasserstein", "spectral_norm": False},
        {"critic_steps": 2, "patch": 1, "base": 4},
        BATCH_NORM,
        {"network": "residual"},
        {"network": "residual", "patch": 1, "base": 4, **BATCH_NORM},
        {"network": "biggan", "norm": "batch"},
        {"network": "biggan_deep", "attention": (0,), "init": "orthogonal", "orthogonal": 1e-3, **SPECTRAL_NORM},
        {"sampler": "latent_langevin", "steps": 2},
    ],
    "ebm": [
        {"network": "residual", "optimizer": "adamw", "dropout": 0.5, "annealing": "constant", "warmup": 2},
        {"network": "residual", "spectral_norm": False, "start": "noise"},
        {"steepest": 0.0, "bounded": False},
    ],
    "jem": [
        {"start": "noise", "restarts": 0.05, "chains_of": "images", "data_noise": 0.03, "gradient_clip": 1.0},
        {"chains_of": "images", "restarts": 0.5},
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
    "pixelcnn": [{"patch": 1, "embedding": 0, "waves": 0, "optimizer": "adamw"}, {"kernel": 5, "layers": 3}],
    "pixeliqn": [{"patch": 1, "embedding": 0, "waves": 0, "optimizer": "adamw"}, {"quantiles": 1, "tau": "uniform"}],
    "sparse_transformer": [{"attention": ("full",), "optimizer": "adamw"}, {"tokens": "values", "waves": 0}],
}


def variants(first):
    """Every model with the first of its changes, or with every other."""
    for name, changes in VARIANTS.items():
        for change in changes[:1] if first else changes[1:]:
            told = ",".join(f"{option}={value}" for option, value in change.items())
            slow = [pytest.mark.slow] if name in LONG or not first else []
            yield pytest.param(name, change, marks=slow, id=f"{name}-{told}")


@pytest.mark.parametrize(("name", "change"), list(variants(first=True)))
def test_shipped_models_with_other_options(name, change):
    model = load_plugins().model(name)[0]
    if name in LONG:
        assert broken(*in_gray(model, **change)) == []
    else:
        check_model(model, **change)


@pytest.mark.parametrize(("name", "change"), list(variants(first=False)))
def test_shipped_models_with_yet_other_options(name, change):
    assert broken(*in_gray(load_plugins().model(name)[0], **change)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("ddpm", "small"),
        ("ddpm", "small-2015"),
        ("ddpm", "small-guided"),
        ("ldm", "small"),
        ("ldm", "small-guided"),
        ("cascade", "small"),
        ("gan", "small"),
        ("gan", "paper"),
        ("ebm", "small"),
        ("jem", "small"),
        ("gan", "biggan"),
        ("gan", "biggan-deep"),
        ("vae", "small"),
        ("flow", "small"),
        ("flow", "affine"),
        ("score", "small"),
        ("score", "small-v1"),
        ("pixelcnn", "small"),
        ("pixeliqn", "small"),
        ("sparse_transformer", "small"),
        ("vqgan", "small"),
    ],
)
def test_larger_presets(name, preset):
    assert broken_at_size(load_plugins().model(name)[0], preset) == []


@pytest.mark.slow
def test_the_small_preset_of_flow_matching():
    """In fewer of the steps of the likelihood, each of which goes back to the images."""
    assert broken_at_size(load_plugins().model("flow_matching")[0], "small", likelihood_steps=8) == []


COLOUR = {
    "cascade": [{}],
    "ebm": [{}],
    "score": [{}],
    "flow_matching": [{}],
    "gan": [{}, {"network": "residual", "patch": 1, "base": 4, **BATCH_NORM}],
    "vae": [{}, {"likelihood": "gaussian"}],
    "flow": [{}, {"mixing": "conv", "coupling": "affine", "front": "linear", "levels": 3}, VARIATIONAL],
    "pixelcnn": [{}],
    "pixeliqn": [{}],
    "sparse_transformer": [{}],
}


@pytest.mark.parametrize("kind", [None, "class"])
@pytest.mark.parametrize(("name", "change"), [(name, change) for name in COLOUR for change in COLOUR[name]])
def test_colour_images_of_32_x_32_train_like_any_other(name, change, kind):
    """In the harness's own loop; the likelihood of what was trained on is better than before, where there is one."""
    model = load_plugins().model(name)[0]
    config = model.Config(**{**model.presets["tiny"], "batch_size": 8, **change})
    case = Case(model, config, (3, 32, 32), kind)
    assert all(tensor.isfinite().all() for tensor in case.trained.state_dict().values())
    images = case.sample(case.trained)
    assert images.shape == (6, 3, 32, 32) and images.isfinite().all() and images.std() > 0
    if isinstance(case.trained, Likelihood):
        before, after = (case.log_prob(m, case.batch).mean() for m in (case.build(), case.trained))
        assert after > before


def test_all_six_are_registered():
    assert {"ddpm", "ldm", "gan", "vae", "flow", "gaussian"} <= {model.name for model in shipped()}


def test_toys():
    check_model(Toy)
