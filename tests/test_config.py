"""Suites, budgets, seeds and settings: what they mean, and how each mistake is named."""

from pathlib import Path

import pytest

from genbench.data.entries import read_entries
from genbench.planning.config import configure, make_experiment, parse_seeds, parse_setting
from genbench.records.budget import Budget
from genbench.records.v100 import parse_conversion
from genbench.running.defaults import load_plugins
from genbench.support.errors import BadInput


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("180s", {"seconds": 180}),
        ("0.5s", {"seconds": 0.5}),
        ("200000images", {"images": 200_000}),
        ("2000steps", {"steps": 2000}),
        ("1e15flops", {"flops": 10**15}),
    ],
)
def test_budgets(text, meaning):
    assert Budget.parse(text).as_dict() == meaning


@pytest.mark.parametrize("text", ["", "60", "s", "-5s", "0s", "1.5steps", "10 parsecs", "nans", "1e999s", "5minutes"])
def test_bad_budgets_show_the_forms(text):
    with pytest.raises(BadInput) as problem:
        Budget.parse(text)
    assert "180s" in problem.value.hint


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    """Editors on Windows put one at the head of what they save as UTF-8."""
    mark = "\ufeff"
    (tmp_path / "suite.toml").write_text(f"{mark}budget = '7steps'\n[[models]]\nname = 'gaussian'\n", encoding="utf-8")
    assert make_experiment(tmp_path / "suite.toml", {}, [], []).budget.as_dict() == {"steps": 7}
    (tmp_path / "own.toml").write_text(
        f"{mark}[own]\nsource = 'folder'\npath = 'images'\nshape = [1, 8, 8]\n", encoding="utf-8"
    )
    assert set(read_entries(tmp_path / "own.toml")) == {"own"}
    (tmp_path / "factor.json").write_text(mark + '{"factor": 2.5, "basis": "given"}', encoding="utf-8")
    assert parse_conversion(str(tmp_path / "factor.json")).factor == 2.5


def test_a_line_is_counted_after_a_byte_order_mark(tmp_path):
    (tmp_path / "suite.toml").write_text("\ufeffsamples = 1\n[[models]]\nname = 'gaussian'\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"suite\.toml:1: samples"):
        make_experiment(tmp_path / "suite.toml", {}, [], [])


def test_seeds_are_a_count_or_a_list():
    assert parse_seeds("3") == (0, 1, 2)
    assert parse_seeds("0,1,2") == (0, 1, 2)
    assert parse_seeds("7,") == (7,)


@pytest.mark.parametrize("text", ["", ",", "-1", "1.5", "a", "0", "99999999999999999999999,", "1,b"])
def test_bad_seeds(text):
    with pytest.raises(BadInput, match="seeds"):
        parse_seeds(text)


def test_settings_are_toml_or_words():
    assert parse_setting("ddpm.lr=1e-4") == ("ddpm", "lr", 1e-4)
    assert parse_setting("ddpm.widths=[32, 64]") == ("ddpm", "widths", [32, 64])
    assert parse_setting("ddpm-v1.2.schedule=cosine") == ("ddpm-v1.2", "schedule", "cosine")
    for bad in ("ddpm", "ddpm.lr", "lr=3", ".a=1"):
        with pytest.raises(BadInput, match="--set"):
            parse_setting(bad)


def experiment(tmp_path, text, **options):
    file = tmp_path / "suite.toml"
    file.write_text(text)
    return make_experiment(file, options, options.pop("models", []), options.pop("settings", []))


def test_a_suite_is_read_and_overridden(tmp_path):
    text = 'budget = "10steps"\nseeds = 2\n[[models]]\nname = "vae"\n[[models]]\nname = "vae"\nlabel = "vae-wide"\n'
    found = experiment(tmp_path, text, budget="20steps", settings=["vae-wide.width=99"])
    assert found.budget.as_dict() == {"steps": 20} and found.seeds == (0, 1)
    assert [(m.name, m.label, m.config) for m in found.models] == [
        ("vae", "vae", {}),
        ("vae", "vae-wide", {"width": 99}),
    ]


def test_true_and_false_are_values_of_a_models_options_and_of_nothing_else(tmp_path):
    found = experiment(tmp_path, f"{MODELS}config = {{ scale_shift = false, fourier = [] }}")
    assert found.models[0].config == {"scale_shift": False, "fourier": []}
    with pytest.raises(BadInput, match=r"suite\.toml:3: models\.0\.tuning_trials: must not be true or false"):
        experiment(tmp_path, f"{MODELS}tuning_trials = true")


@pytest.mark.parametrize("suite", sorted(Path(__file__).parents[1].glob("benchmarks/*.toml")), ids=lambda s: s.name)
def test_the_suites_of_the_benchmarks_say_what_the_shipped_models_know(suite):
    plugins = load_plugins()
    choices = [c for c in make_experiment(suite, {}, [], []).models if c.name in plugins.model_names]
    assert len(choices) > 5
    for choice in choices:
        configure(plugins.model(choice.name)[0], choice)


MODELS = '[[models]]\nname = "vae"\n'


def test_the_quick_suite_has_the_five_families_and_the_baseline():
    found = make_experiment(None, {}, [], [])
    assert [m.name for m in found.models] == ["ddpm", "ldm", "gan", "vae", "flow", "gaussian"]
    assert (found.budget.as_dict(), found.samples, found.datasets) == ({"seconds": 60}, 1000, ("mnist5k",))


def test_several_problems_are_reported_together(tmp_path):
    with pytest.raises(BadInput) as problem:
        experiment(tmp_path, f'samples = 1\nprecision = "x"\n{MODELS}')
    assert "samples" in problem.value.message and "precision" in problem.value.message
