"""A suite file and the command line -> one Experiment, with every value checked and every mistake named."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from genbench.condition import Kind, as_kind
from genbench.records.budget import Budget
from genbench.support.errors import BadInput, did_you_mean
from genbench.support.names import check_name
from genbench.support.seeds import MAX_SEED
from genbench.support.toml_file import Keys, read_toml
from genbench.support.validation import checked

KEYS = "the README has a suite; `genbench run --help` says what each key means"
MOST_SEEDS = 10_000
QUICK_SUITE = Path(__file__).parent.parent / "suites" / "quick.toml"


class ModelChoice(BaseModel):
    """One `[[models]]` table: a model, the label it has in tables, and what is set of its configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    label: str = ""
    preset: str | None = None
    config: dict[str, Any] = {}
    tuning_trials: int | None = Field(None, ge=0)
    """Configurations that were tried before this one was chosen; None: not told."""

    @field_validator("name", "label")
    @classmethod
    def _legal(cls, value: str) -> str:
        try:
            return check_name(value, "a name") if value else value
        except BadInput as fault:
            raise ValueError(f"it cannot be a name: {fault.hint}") from None

    def model_post_init(self, context: object) -> None:
        if not self.name:
            raise ValueError("name: it is empty")
        if not self.label:
            object.__setattr__(self, "label", self.name)


class Experiment(BaseModel):
    """What a suite file may say. `samples` None means min(10,000, test images)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[ModelChoice, ...] = Field(min_length=1)
    datasets: tuple[str, ...] = Field(default=("mnist5k",), min_length=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    budget: Budget = Budget(unit="seconds", amount=60)
    samples: int | None = Field(None, ge=2, le=10_000_000)
    conditional: bool = False
    condition: Kind | None = None
    """The kind to condition on; `conditional` alone means the class."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    extractors: tuple[str, ...] = ()
    likelihood_images: int = Field(1000, ge=2)
    curve: int = Field(0, ge=0, le=100)
    allow_rank_deficient: bool = False

    @property
    def kind(self) -> Kind | None:
        """The kind of condition that the models are to get, None for none."""
        return self.condition or as_kind(self.conditional)

    @field_validator("budget", mode="before")
    @classmethod
    def _budget(cls, value: object) -> object:
        return Budget.parse(value) if isinstance(value, str) else value

    @field_validator("budget")
    @classmethod
    def _some_budget(cls, value: Budget) -> Budget:
        if not value.amount:
            raise ValueError("the amount must be a positive number")
        return value

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("a count, or a list of seeds")
        if isinstance(value, int) and value > MOST_SEEDS:
            raise ValueError(f"at most {MOST_SEEDS:,} seeds")
        seeds = tuple(range(value)) if isinstance(value, int) else value
        if isinstance(seeds, Iterable) and not isinstance(seeds, str):
            return tuple(_seed(seed) for seed in seeds)
        raise ValueError("a count, or a list of seeds")

    def model_post_init(self, context: object) -> None:
        for what, values in (
            ("seed", self.seeds),
            ("dataset", self.datasets),
            ("label", [m.label.lower() for m in self.models]),
        ):
            twice = sorted({str(value) for value in values if list(values).count(value) > 1})
            if twice:
                raise ValueError(f"{what} {twice[0]} is given twice: give variants of one model a `label` each")


def _seed(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEED:
        raise ValueError(f"seed {value!r}: whole numbers from 0 to 2**63 - 1")
    return value


def parse_seeds(text: str) -> tuple[int, ...]:
    """`3` is a count (seeds 0, 1, 2); `0,1,2` and `7,` are the seeds themselves."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]+", part) for part in parts if part) or not any(parts):
        raise BadInput(f"--seeds {text}", "a count such as 3, or the seeds such as 0,1,2 or 7,")
    numbers = [int(part) for part in parts if part]
    seeds = tuple(numbers) if "," in text else tuple(range(min(numbers[0], MOST_SEEDS + 1)))
    if not seeds or len(seeds) > MOST_SEEDS or max(seeds) > MAX_SEED:
        raise BadInput(f"--seeds {text}", f"1 to {MOST_SEEDS:,} seeds, each from 0 to 2**63 - 1")
    return seeds


def parse_setting(text: str) -> tuple[str, str, Any]:
    """`MODEL.KEY=VALUE` -> (model, key, value); the value is TOML, or a plain word."""
    match = re.fullmatch(r"([^.=\s]+(?:\.[^.=\s]+)*?)\.([A-Za-z_][A-Za-z0-9_]*)=(.*)", text, re.DOTALL)
    if not match:
        raise BadInput(f"--set {text}", "use --set MODEL.KEY=VALUE, for example --set ddpm.batch_size=32")
    try:
        value = tomllib.loads(f"value = {match[3]}")["value"]
    except tomllib.TOMLDecodeError:
        value = match[3]
    return match[1], match[2], value


def make_experiment(
    suite: Path | None, options: Mapping[str, Any], models: Iterable[str], settings: Iterable[str]
) -> Experiment:
    """The experiment of a suite file, overridden by the command line's options (None: not given).

    `models` replaces the suite's models; `settings` are `--set` texts. Raises BadInput naming file and key.
    """
    models = list(models)
    file = None if suite is None and models else read_toml(suite or QUICK_SUITE, "suite")
    given = {key: value for key, value in options.items() if value is not None}
    if models:
        given["models"] = [{"name": name} for name in models]

    def at(keys: Keys) -> str:
        return file.at(keys) if file and suite and not (keys and keys[0] in given) else "the command line"

    tables = {**(file.tables if file else {}), **given}
    return _apply_settings(checked(Experiment, tables, at, KEYS, {"models": ModelChoice}), settings)


def _apply_settings(experiment: Experiment, settings: Iterable[str]) -> Experiment:
    models = {choice.label: choice for choice in experiment.models}
    for text in settings:
        label, key, value = parse_setting(text)
        if label not in models:
            raise BadInput(f"--set {text}: no model {label!r} here", did_you_mean(label, set(models)))
        update = {"preset": value} if key == "preset" else {"config": {**models[label].config, key: value}}
        models[label] = models[label].model_copy(update=update)
    return experiment.model_copy(update={"models": tuple(models.values())})


def configure(model: Any, choice: ModelChoice) -> Any:
    """The model's Config: its defaults, then the preset, then what is set. Raises BadInput naming model and key."""
    where = f"model {choice.label!r}"
    if choice.preset is not None and choice.preset not in model.presets:
        raise BadInput(f"{where}: unknown preset {choice.preset!r}", did_you_mean(choice.preset, set(model.presets)))
    values = {**model.presets.get(choice.preset, {}), **choice.config} if choice.preset else dict(choice.config)
    return checked(model.Config, values, lambda keys: where, "`genbench models` lists what may be set")
