"""Words of the command line that change nothing are told of, before anything runs."""

import pytest

from genbench.planning.config import make_experiment
from genbench.planning.unused import unused_words
from genbench.running.defaults import load_plugins


def told(*settings, models=("ddpm", "gan", "gaussian"), sweeps=(), **options):
    return unused_words(make_experiment(None, options, models, settings, sweeps), load_plugins())


def test_an_option_without_effect_is_named_with_the_setting_that_disables_it():
    assert told("ddpm.sampler=ancestral", "ddpm.steps=10") == ["ddpm: steps has no effect with sampler = ancestral"]
    assert told("ddpm.steps=10") == told("ddpm.sampler=ancestral") == []
    assert told("gan.gradient_penalty=1") == ["gan: gradient_penalty has no effect with loss = hinge"]
    assert told("gan.gradient_penalty=1", "gan.loss=wasserstein") == []


@pytest.mark.parametrize(
    ("setting", "disabled"),
    [
        ("ddpm.times=uniform", "ddpm.preset=small-adm"),
        ("ldm.bound_strata=3", "ldm.first_stage=vq"),
        ("flow.bins=9", "flow.coupling=affine"),
        ("flow.blocks=3", "flow.mixing=conv"),
        ("gan.depth=3", "gan.network=biggan"),
        ("gan.critic_gain=false", "gan.network=residual"),
        ("pixeliqn.waves=3", "pixeliqn.embedding=0"),
    ],
)
def test_what_has_an_effect_loses_it_under_another_setting(setting, disabled):
    model, name = setting.split("=")[0].split(".")
    assert told(setting, models=(model,)) == []
    (said,) = told(setting, disabled, models=(model,))
    assert said.startswith(f"{model}: {name} has no effect with ")


def test_an_option_that_a_preset_disables_is_named_too_but_not_those_that_it_sets_itself():
    assert told("ddpm.preset=paper") == []
    assert told("ddpm.preset=paper", "ddpm.matrix_learning_rate=0.1") == [
        "ddpm: matrix_learning_rate has no effect with optimizer = adamw"
    ]


def test_rows_of_a_sweep_share_a_sentence():
    assert told("ddpm.sampler=ancestral", sweeps=["ddpm.eta=0.0,0.5,1.0"]) == [
        "ddpm-eta0, ddpm-eta0.5 and ddpm-eta1: eta has no effect with sampler = ancestral"
    ]


def test_models_without_labels_are_named_in_a_conditional_experiment():
    assert told(conditional=True) == ["gaussian: no labels can be given: trained and sampled without, and ranked apart"]


def test_models_that_never_run_in_bfloat16_are_named_if_it_is_asked_for():
    models = ("score", "gan")
    assert told(models=models, precision="bf16") == [
        "score: float32 all the same: a model that bfloat16 is too coarse for"
    ]
    assert told(models=models, precision="auto") == []


@pytest.mark.slow
def test_the_command_line_says_so(genbench):
    words = ["plan", "-m", "gaussian", "-d", "digits", "--budget", "1steps", "--conditional"]
    assert "note: gaussian: no labels can be given" in genbench(*words).err
    assert "no labels" not in genbench(*words, "--json").err


def test_options_of_another_first_stage_are_named():
    models = ("ldm", "vqgan")
    assert told("ldm.codes=64", models=models) == ["ldm: codes has no effect with first_stage = kl"]
    assert told("ldm.first_stage=vq", "ldm.kl_weight=1", models=models) == [
        "ldm: kl_weight has no effect with first_stage = vq"
    ]
    assert told("ldm.first_stage=vq", "ldm.codes=64", models=models) == []
    assert told("vqgan.critic_layers=1", models=models) == ["vqgan: critic_layers has no effect with adversarial = 0"]
    assert told("vqgan.critic_layers=1", "vqgan.adversarial=0.5", models=models) == []


def test_options_that_matter_only_under_a_condition_are_named_without_it():
    assert told("gan.energy_score=2") == ["gan: energy_score has no effect without --condition hole or image"]
    assert told("gan.energy_score=2", condition="hole", models=("gan",)) == []
    words = "ddpm.words=whole"
    assert told(words, condition="hole", models=("ddpm",)) == ["ddpm: words has no effect without --condition text"]
    assert told(words, condition="text", models=("ddpm",)) == []
    assert told("ddpm.words=whole", condition="own", models=("ddpm",)) == [], "a dataset may have texts of its own"
    assert told("ddpm.label_dropout=0.1") == ["ddpm: label_dropout has no effect without --condition"]
    assert told("ddpm.label_dropout=0.1", conditional=True, models=("ddpm",)) == []
