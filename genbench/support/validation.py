"""Values written by people, checked against a pydantic model; all mistakes are reported together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from genbench.support.errors import BadInput, did_you_mean, together
from genbench.support.text import HIDDEN, SECRET_NAME, is_secret, shortened
from genbench.support.toml_file import Keys

M = TypeVar("M", bound=BaseModel)
LONGEST_VALUE = 80


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
        others = [
            problem for problem in error.errors() if not any(problem["loc"][: len(loc)] == loc for loc in refused)
        ]
        faults += [_fault(problem, at, _model_at(model, problem["loc"], inner or {}), hint) for problem in others]
    if faults:
        raise together(faults)
    return found


def _model_at(model: type[BaseModel], loc: Keys, inner: Mapping[str, type[BaseModel]]) -> type[BaseModel]:
    return inner[str(loc[0])] if len(loc) > 2 and loc[0] in inner else model


def _fault(problem: ErrorDetails, at: Callable[[Keys], str], model: type[BaseModel], hint: str) -> BadInput:
    loc = problem["loc"]
    key = ".".join(map(str, loc))
    if problem["type"] == "extra_forbidden":
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
