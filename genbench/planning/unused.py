"""Words of an experiment that change nothing: whoever wrote them is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genbench.condition import KINDS, OF_DATASET, Asked
from genbench.extension.registry import Plugins
from genbench.planning.config import Experiment, configure
from genbench.support.text import list_words

if TYPE_CHECKING:
    from genbench.model import Model


def unused_words(experiment: Experiment, plugins: Plugins) -> list[str]:
    """A sentence for each option that was set without effect, and for the models that take no labels or no bfloat16.

    Options that a preset sets are the preset's affair.
    """
    told: dict[str, list[str]] = {}
    for choice in experiment.models:
        model, _ = plugins.model(choice.name)
        config = configure(model, choice)
        kind = experiment.kind_of(choice)
        for key in choice.config:
            if reason := _in_vain(config, key, kind):
                told.setdefault(f"{key} has no effect {reason}", []).append(choice.label)
        if kind == "class" and "class" not in model.kinds():
            told.setdefault("no labels can be given: trained and sampled without, and ranked apart", []).append(
                choice.label
            )
        if experiment.precision == "bf16" and not model.bf16:
            told.setdefault("float32 all the same: a model that bfloat16 is too coarse for", []).append(choice.label)
    return [f"{list_words(labels)}: {sentence}" for sentence, labels in told.items()]


def _in_vain(config: Model.Config, key: str, asked: Asked | None) -> str:
    """Why an option has no effect under a condition, or without one; "" if it has one, or may have it."""
    if settings := config.unused(key):
        return f"with {settings}"
    kinds = config.declared(key, "only_given")
    if not kinds or asked in (*kinds, OF_DATASET):
        return ""
    return "without --condition" if set(kinds) == set(KINDS) else f"without --condition {' or '.join(kinds)}"
