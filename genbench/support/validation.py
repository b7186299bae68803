"""Values written by people, checked against a pydantic model; all mistakes are reported together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from genbench.support.errors import BadInput, did_you_mean, nearest, together
from genbench.support.text import HIDDEN, SECRET_NAME, is_secret, shortened
from genbench.support.toml_file import Keys

M = TypeVar("M", bound=BaseModel)
LONGEST_VALUE = 80
UNKNOWN = "extra_forbidden"
"""What pydantic calls a key that nobody knows."""


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
            _fault(problem, at, _model_at(model, problem["loc"], inner or {}), hint, meant.get(problem["loc"]))
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
    problem: ErrorDetails, at: Callable[[Keys], str], model: type[BaseModel], hint: str, meant: Keys | None
) -> BadInput:  # fmt: skip
    """The mistake in words; `meant` is the place of the missing key that an unknown one must be."""
    loc = problem["loc"]
    key = ".".join(map(str, loc))
    if meant is not None:
        return BadInput(f"{at(loc)}: {key}: unknown key", f"did you mean {str(meant[-1])!r}?")
    if problem["type"] == UNKNOWN:
        return BadInput(f"{at(loc)}: {key}: unknown key", did_you_mean(str(loc[-1]), set(model.model_fields)))
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
