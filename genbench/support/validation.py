"""Values written by people, checked against a pydantic model; all mistakes are reported together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, core_schema

from genbench.support.errors import BadInput, did_you_mean, nearest, together
from genbench.support.text import HIDDEN, SECRET_NAME, is_secret, list_words, shortened
from genbench.support.toml_file import Keys

M = TypeVar("M", bound=BaseModel)
LONGEST_VALUE = 80
UNKNOWN = "extra_forbidden"
"""What pydantic calls a key that nobody knows."""


class OneOf:
    """Annotates a field that holds one of several models, each with a literal `kind`, or None.

    Of those of the kind that a table has, it is for the one that knows most of its keys, the first of equals.
    """

    def __init__(self, *models: type[BaseModel]) -> None:
        self.models = {model.__name__: model for model in models}
        self.kinds = list(dict.fromkeys(_kind(model) for model in models))

    def name(self, value: Any) -> str | None:
        """The name of the model that a table, or an instance, is meant for; None for none."""
        if isinstance(value, BaseModel):
            return type(value).__name__
        if not isinstance(value, Mapping):
            return None
        of_kind = [model for model in self.models.values() if _kind(model) == value.get("kind")]
        return max(of_kind, key=lambda m: len(m.model_fields.keys() & value.keys())).__name__ if of_kind else None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {name: handler.generate_schema(model) for name, model in self.models.items()}
        said = f"here a condition is a table with kind = {list_words(self.kinds)}"
        return core_schema.nullable_schema(
            core_schema.tagged_union_schema(choices, self.name, custom_error_type="kind", custom_error_message=said)
        )


def _kind(model: type[BaseModel]) -> Any:
    """The value of a model's key `kind`."""
    (kind,) = get_args(model.model_fields["kind"].annotation)
    return kind


def _choice(model: type[BaseModel], loc: Keys) -> OneOf | None:
    """What the field in which a place lies may hold, if that is `OneOf` several models."""
    field = model.model_fields.get(str(loc[0])) if loc else None
    return next((about for about in field.metadata if isinstance(about, OneOf)), None) if field else None


def _written(model: type[BaseModel], loc: Keys) -> Keys:
    """The keys of a place as they were written: pydantic puts the name of the chosen model among them."""
    return loc if _choice(model, loc) is None else (loc[0], *loc[2:])


def checked(
    model: type[M],
    values: Mapping[str, Any],
    at: Callable[[Keys], str],
    hint: str,
    inner: Mapping[str, type[BaseModel]] | None = None,
) -> M:
    """Validate the values and return the model.

    `at` says where keys were written, `hint` where to look up what is allowed, `inner` gives, by key, the models in
    lists. Raises BadInput naming place, key and value of every mistake and suggesting a name for an unknown key.
    """
    refused = dict(_refused(model, values, inner or {}))
    faults = [
        BadInput(f"{at(loc)}: {'.'.join(map(str, loc))}: {fault}", fix or hint) for loc, (fault, fix) in refused.items()
    ]
    try:
        found = model.model_validate(values)
    except ValidationError as error:
        others = _causes(error.errors(), list(refused))
        meant = _meant(others)
        faults += [
            _fault(problem, at, model, inner or {}, hint, meant.get(problem["loc"]))
            for problem in others
            if problem["loc"] not in meant.values()
        ]
    if faults:
        raise together(faults)
    return found


def _causes(problems: list[ErrorDetails], refused: list[Keys]) -> list[ErrorDetails]:
    """The problems without those that follow from one that is `refused`, or from one deeper in the same value.

    A list of which every item is wrong, for instance, is not also too short.
    """
    places = [*refused, *(problem["loc"] for problem in problems)]
    known = [problem for problem in problems if not any(problem["loc"][: len(loc)] == loc for loc in refused)]
    return [each for each in known if not any(_is_inside(loc, each["loc"]) for loc in places)]


def _is_inside(loc: Keys, outer: Keys) -> bool:
    return len(loc) > len(outer) and loc[: len(outer)] == outer


def _model_at(model: type[BaseModel], loc: Keys, inner: Mapping[str, type[BaseModel]]) -> type[BaseModel]:
    """The model of the table that a place is in."""
    if len(loc) > 2 and loc[0] in inner:
        return inner[str(loc[0])]
    if len(loc) > 1 and (choice := _choice(model, loc)) is not None:
        return choice.models[str(loc[1])]
    table = model.model_fields[str(loc[0])].annotation if len(loc) > 1 and loc[0] in model.model_fields else None
    return table if isinstance(table, type) and issubclass(table, BaseModel) else model


def _meant(problems: Iterable[ErrorDetails]) -> dict[Keys, Keys]:
    """By the place of a key that is unknown, that of the missing one that it must be: nearly the same, or the only one.

    A wrong key is one mistake, although its table then has one key too many and one too few.
    """
    places = {kind: [each["loc"] for each in problems if each["type"] == kind] for kind in ("missing", UNKNOWN)}
    meant: dict[Keys, Keys] = {}
    for loc in places[UNKNOWN]:
        missing = [each for each in places["missing"] if each[:-1] == loc[:-1] and each not in meant.values()]
        near = [each for each in missing if nearest(str(loc[-1]), [str(each[-1])])]
        alone = len(missing) == sum(each[:-1] == loc[:-1] for each in places[UNKNOWN]) == 1
        if near or alone:
            meant[loc] = (near or missing)[0]
    return meant


def _fault(
    problem: ErrorDetails, at: Callable[[Keys], str], model: type[BaseModel], inner: Mapping[str, type[BaseModel]],
    hint: str, meant: Keys | None,
) -> BadInput:  # fmt: skip
    """The mistake in words; `meant` is the place of the missing key that an unknown one must be."""
    loc, table = _written(model, problem["loc"]), _model_at(model, problem["loc"], inner)
    key = ".".join(map(str, loc))
    if meant is not None:
        return BadInput(f"{at(loc)}: {key}: unknown key", f"did you mean {str(meant[-1])!r}?")
    if problem["type"] == UNKNOWN:
        return BadInput(f"{at(loc)}: {key}: unknown key", did_you_mean(str(loc[-1]), set(table.model_fields)))
    said = problem["msg"].removeprefix("Value error, ")
    if not loc:
        return BadInput(f"{at(loc)}: {said}", hint)
    if problem["type"] == "missing":
        return BadInput(f"{at(loc)}: {key}: missing", hint)
    return BadInput(f"{at(loc)}: {key}: {said} (got {shown(str(loc[-1]), problem['input'])})", hint)


def shown(key: str, value: Any) -> str:
    """A value as messages show it."""
    return shortened(HIDDEN if SECRET_NAME.search(key) else repr(value), LONGEST_VALUE)


def _refused(
    model: type[BaseModel], values: Mapping[str, Any], inner: Mapping[str, type[BaseModel]]
) -> Iterator[tuple[Keys, tuple[str, str]]]:
    """Place, mistake and hint for what pydantic would accept: true for 1, numbers that are not finite, secrets."""
    for key, field in model.model_fields.items():
        value, kind = values.get(key), str(field.annotation)
        leaves = list(_leaves(value))
        if key in inner and isinstance(value, list | tuple):
            for i, table in enumerate(value):
                found = _refused(inner[key], table, {}) if isinstance(table, Mapping) else ()
                yield from (((key, i, *loc), fault) for loc, fault in found)
        elif "Any" not in kind and "bool" not in kind and any(isinstance(leaf, bool) for leaf in leaves):
            yield (key,), (f"must not be true or false (got {shown(key, value)})", "")
        elif any(isinstance(leaf, float) and not math.isfinite(leaf) for leaf in leaves):
            yield (key,), (f"not a finite number (got {shown(key, value)})", "")
        elif any(is_secret(key, leaf) for leaf in leaves):
            yield (key,), ("a secret, which records would store", "let the code read it from the environment")


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [leaf for inner in value.values() for leaf in _leaves(inner)]
    if isinstance(value, list | tuple):
        return [leaf for inner in value for leaf in _leaves(inner)]
    return [value]
