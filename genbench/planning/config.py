"""A suite file and the command line -> one Experiment, with every value checked and every mistake named."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from genbench.condition import OF_DATASET, Asked, ConditionSpec, Kind, as_kind
from genbench.planning.suites import suite_file
from genbench.records.budget import FORM, Budget
from genbench.support.denials import look
from genbench.support.errors import BadInput, did_you_mean
from genbench.support.names import check_name
from genbench.support.seeds import MAX_SEED
from genbench.support.toml_file import Keys, TomlFile, read_toml
from genbench.support.validation import checked

KEYS = "`genbench suites quick` shows a suite; `genbench run --help` explains each key"
MOST_SEEDS = 10_000
MOST_ROWS = 1_000
"""Per model's sweep."""
MOST_LETTERS = 100
"""Of a title."""
SETTING = re.compile(r"([^.=\s]+(?:\.[^.=\s]+)*?)\.([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


class ModelChoice(BaseModel):
    """One `[[models]]` table: a model, its label in tables, and the options set on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    label: str = ""
    preset: str | None = None
    config: dict[str, Any] = {}
    sweep: dict[str, tuple[Any, ...]] = {}
    """Values by option: one row for each combination."""
    conditional: bool | None = None
    condition: Kind | None = None
    """The kind that this row conditions on, as in the suite; without either, what the suite says for all."""
    tuning_trials: int | None = Field(None, ge=0)
    """Configurations tried before this one was chosen; None: not reported."""

    @field_validator("name", "label")
    @classmethod
    def _legal(cls, value: str) -> str:
        try:
            return check_name(value, "a name") if value else value
        except BadInput as fault:
            raise ValueError(f"not a valid name: {fault.hint}") from None

    @field_validator("sweep")
    @classmethod
    def _some_values(cls, value: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for key, values in value.items():
            if not values:
                raise ValueError(f"{key}: no values")
        return value

    def model_post_init(self, context: object) -> None:
        if not self.name:
            raise ValueError("name: must not be empty")
        if not self.label:
            object.__setattr__(self, "label", self.name)
        if self.conditional is not None and self.condition is not None:
            _refuse_both(self.conditional, self.condition)
        set_once = {*self.config, *(["preset"] if self.preset is not None else [])}
        if twice := sorted(set_once & set(self.sweep)):
            raise ValueError(f"{twice[0]} is swept and set: leave one out")

    def with_option(self, key: str, value: Any) -> ModelChoice:
        """A copy with one option, the preset or the label replaced, not swept. Raises BadInput for an illegal label."""
        if key == "label":
            return self.model_copy(update={"label": check_name(str(value), f"--set {self.label}.label={value}")})
        update: dict[str, Any] = {"preset": value} if key == "preset" else {"config": {**self.config, key: value}}
        sweep = {swept: values for swept, values in self.sweep.items() if swept != key}
        return self.model_copy(update={**update, "sweep": sweep})

    def with_sweep(self, key: str, values: tuple[Any, ...]) -> ModelChoice:
        """A copy that sweeps an option besides those that it sweeps already."""
        return self.model_copy(update={"sweep": {**self.sweep, key: values}})

    def rows(self) -> list[ModelChoice]:
        """One choice per combination of swept values, labelled by them. Raises BadInput for illegal labels."""
        if prod(map(len, self.sweep.values())) > MOST_ROWS:
            raise BadInput(f"model {self.label!r}: the sweep has more than {MOST_ROWS:,} rows", "sweep fewer values")
        named = []
        for key, values in self.sweep.items():
            words = {_row_words(key, value): value for value in values}
            if len(words) < len(values):
                shown = ", ".join(map(str, values))
                raise BadInput(f"model {self.label!r}: sweep of {key}: {shown}: a value is given twice", KEYS)
            named.append([(key, value, word) for word, value in words.items()])
        found = []
        for point in product(*named):
            label = "-".join([self.label, *(word for _, _, word in point)])
            row = self.model_copy(update={"label": check_name(label, "the label of a sweep's row"), "sweep": {}})
            for key, value, _ in point:
                row = row.with_option(key, value)
            found.append(row)
        return found


class Experiment(BaseModel):
    """The keys of a suite file. `samples` None means min(10,000, test images)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = Field("", max_length=MOST_LETTERS)
    models: tuple[ModelChoice, ...] = Field(min_length=1)
    datasets: tuple[str, ...] = Field(default=("mnist5k",), min_length=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    budget: Budget = Budget(unit="seconds", amount=60)
    samples: int | None = Field(None, ge=2, le=10_000_000)
    conditional: bool = False
    condition: Asked | None = None
    """The kind to condition on, or OF_DATASET; `conditional` alone means the class."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    extractors: tuple[str, ...] = ()
    likelihood_images: int = Field(1000, ge=2)
    curve: int = Field(0, ge=0, le=100)
    allow_rank_deficient: bool = False
    plugins: tuple[str, ...] = ()
    """Plugins that its models come from, as for `--plugin`; files and folders are given relative to the suite's."""
    tune: bool = False
    """Score on training images that are held out, so that options need not be chosen on the test images."""

    def on(self, conditions: Sequence[ConditionSpec]) -> Experiment:
        """The experiment on a dataset that has these conditions."""
        if self.condition != OF_DATASET:
            return self
        return self.model_copy(update={"condition": conditions[0].kind})

    def kind_of(self, choice: ModelChoice) -> Kind | Any:
        """The kind of condition that a row asks for: its own or, if it says nothing, that of the suite."""
        own = choice.condition is not None or choice.conditional is not None
        said = choice if own else self
        return said.condition or as_kind(said.conditional)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of conditions that its rows ask for, each once."""
        return tuple(dict.fromkeys(kind for choice in self.models if (kind := self.kind_of(choice))))

    @field_validator("budget", mode="before")
    @classmethod
    def _budget(cls, value: object) -> object:
        if isinstance(value, Budget | Mapping):
            return value
        if not isinstance(value, str):
            raise ValueError(FORM)
        try:
            return Budget.parse(value)
        except BadInput as fault:
            raise ValueError(f"{fault.message}: {fault.hint}") from None

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
        if self.conditional and self.condition is not None:
            _refuse_both(self.conditional, self.condition)
        _refuse_twice("seed", self.seeds)
        _refuse_twice("dataset", self.datasets)
        self.refuse_labels_twice(self.models)

    def refuse_labels_twice(self, rows: Iterable[ModelChoice]) -> None:
        """Raise ValueError if two of its rows that are conditioned alike have one label."""
        alike: dict[Kind | None, list[str]] = {}
        for row in rows:
            alike.setdefault(self.kind_of(row), []).append(row.label.lower())
        for labels in alike.values():
            _refuse_twice("label", labels)


def _refuse_both(conditional: bool, condition: Asked) -> None:
    """Raise ValueError if `conditional` and `condition` are not the same thing said twice."""
    if not conditional:
        raise ValueError(f"conditional: false, but condition is {condition!r}: give one of them")
    if condition != "class":
        raise ValueError(f"conditional: it means the class, and condition is {condition!r}: give one of them")


def _refuse_twice(what: str, values: Sequence[object]) -> None:
    twice = sorted({str(value) for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{what} {twice[0]} is given twice: give each variant of a model its own `label`")


def _row_words(key: str, value: Any) -> str:
    """`steps5`, `sampler-ddim`: an option and its value as part of a label."""
    words = [_words_of(each) for each in value] if isinstance(value, list) else [_words_of(value)]
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(words))
    return f"{key}{text}" if text[:1].isdigit() or text.startswith("-") else f"{key}-{text}"


def _words_of(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}".replace("+", "")
    return str(value)


def _seed(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEED:
        raise ValueError(f"seed {value!r}: whole numbers from 0 to 2**63 - 1")
    return value


def parse_seeds(text: str) -> tuple[int, ...]:
    """`3` is a count (seeds 0, 1, 2); `0,1,2` and `7,` list seeds."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]+", part) for part in parts if part) or not any(parts):
        raise BadInput(f"--seeds {text}", "give a count such as 3, or seeds such as 0,1,2 or 7,")
    numbers = [int(part) for part in parts if part]
    seeds = tuple(numbers) if "," in text else tuple(range(min(numbers[0], MOST_SEEDS + 1)))
    if not seeds or len(seeds) > MOST_SEEDS or max(seeds) > MAX_SEED:
        raise BadInput(f"--seeds {text}", f"1 to {MOST_SEEDS:,} seeds, each from 0 to 2**63 - 1")
    return seeds


def parse_setting(text: str) -> tuple[str, str, Any]:
    """`MODEL.KEY=VALUE` -> (model, key, value); the value is TOML or a bare word."""
    match = SETTING.fullmatch(text)
    if not match:
        raise BadInput(f"--set {text}", "use --set MODEL.KEY=VALUE, for example --set ddpm.batch_size=32")
    return match[1], match[2], _value_of(match[3])


def parse_sweep(text: str) -> tuple[str, str, tuple[Any, ...]]:
    """`MODEL.KEY=V,V,V` -> (model, key, values); each value is TOML or a bare word."""
    match = SETTING.fullmatch(text)
    form = "use --sweep MODEL.KEY=V,V,V, for example --sweep ddpm.steps=5,10,25,50"
    if not match:
        raise BadInput(f"--sweep {text}", form)
    try:
        values = tomllib.loads(f"values = [{match[3]}]")["values"]
    except tomllib.TOMLDecodeError:
        values = [_value_of(part.strip()) for part in match[3].split(",")]
    if not values or "" in values:
        raise BadInput(f"--sweep {text}: {'a value is empty' if len(values) > 1 else 'no values'}", form)
    return match[1], match[2], tuple(values)


def _value_of(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def make_experiment(
    suite: Path | None,
    options: Mapping[str, Any],
    models: Iterable[str],
    settings: Iterable[str],
    sweeps: Iterable[str] = (),
) -> Experiment:
    """The experiment of a suite, a file or one that ships, overridden by command-line options (None: not given).

    `models` replaces the suite's models; `settings` and `sweeps` are the arguments of `--set` and `--sweep`. Raises
    BadInput naming file and key.
    """
    models = list(models)
    file = None if suite is None and models else read_toml(suite_file(suite), "suite")
    given = {key: value for key, value in options.items() if value is not None}
    if models:
        given["models"] = [{"name": name} for name in models]

    def at(keys: Keys) -> str:
        return file.at(keys) if file and suite and not (keys and keys[0] in given) else "the command line"

    tables = {**(file.tables if file else {}), **given}
    experiment = checked(Experiment, tables, at, KEYS, {"models": ModelChoice})
    choices = _apply_options(experiment.models, settings, sweeps)
    rows = tuple(row for choice in choices for row in choice.rows())
    try:
        experiment.refuse_labels_twice(rows)
    except ValueError as error:
        raise BadInput(f"a sweep: {error}", KEYS) from None
    plugins = _plugins(experiment, file) if file else ()
    return experiment.model_copy(update={"models": rows, "plugins": plugins})


def _plugins(experiment: Experiment, suite: TomlFile) -> tuple[str, ...]:
    """The suite's plugins as `--plugin` takes them. Raises BadInput for a file that is not there."""
    found = []
    for name in experiment.plugins:
        beside = suite.path.parent / name
        if not name or "\0" in name or (name.endswith(".py") and not look(beside).is_file()):
            told = f"{suite.at(('plugins',))}: plugins: no file {str(beside)!r}"
            raise BadInput(told, "give its path from the suite's folder, or the name of an installed package")
        found.append(str(beside) if beside.exists() else name)
    return tuple(found)


def _apply_options(
    choices: Iterable[ModelChoice], settings: Iterable[str], sweeps: Iterable[str]
) -> Iterable[ModelChoice]:
    """The choices with `--set` and `--sweep` applied: to all rows of a label, conditional or not."""
    rows = list(choices)
    labels = [choice.label for choice in rows]
    given = set()
    for text in settings:
        label, key, value = parse_setting(text)
        if label not in labels:
            raise BadInput(f"--set {text}: no model {label!r} here", did_you_mean(label, set(labels)))
        rows = [row.with_option(key, value) if label == own else row for row, own in zip(rows, labels)]
        given.add((label, key))
    for text in sweeps:
        name, key, values = parse_sweep(text)
        swept = {name} if name in labels else {own for row, own in zip(rows, labels) if row.name == name}
        if not swept:
            raise BadInput(f"--sweep {text}: no model {name!r} here", did_you_mean(name, set(labels)))
        if twice := sorted(label for label in swept if (label, key) in given):
            told = f"--sweep {text}: {key} of {twice[0]!r} is given twice"
            raise BadInput(told, "sweep an option once, and do not also set it")
        given |= {(label, key) for label in swept}
        rows = [row.with_sweep(key, values) if own in swept else row for row, own in zip(rows, labels)]
    return rows


def configure(model: Any, choice: ModelChoice) -> Any:
    """The model's Config: defaults, then preset, then set options. Raises BadInput naming model and key."""
    where = f"model {choice.label!r}"
    if choice.preset is not None and choice.preset not in model.presets:
        raise BadInput(f"{where}: unknown preset {choice.preset!r}", did_you_mean(choice.preset, set(model.presets)))
    values = {**model.presets.get(choice.preset, {}), **choice.config} if choice.preset else dict(choice.config)
    return checked(model.Config, values, lambda keys: where, "`genbench models` lists the options")
