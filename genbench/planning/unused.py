"""Words of an experiment that change nothing: whoever wrote them is told."""

from __future__ import annotations

from genbench.extension.registry import Plugins
from genbench.planning.config import Experiment, configure
from genbench.support.text import list_words


def unused_words(experiment: Experiment, plugins: Plugins) -> list[str]:
    """A sentence for each option that was set without effect, and for the models that take no labels or no bfloat16.

    Options that a preset sets are the preset's affair.
    """
    told: dict[str, list[str]] = {}
    for choice in experiment.models:
        model, _ = plugins.model(choice.name)
        config = configure(model, choice)
        for key in choice.config:
            if settings := config.unused(key):
                told.setdefault(f"{key} has no effect with {settings}", []).append(choice.label)
        if experiment.kind_of(choice) == "class" and "class" not in model.kinds():
            told.setdefault("no labels can be given: trained and sampled without, and ranked apart", []).append(
                choice.label
            )
        if experiment.precision == "bf16" and not model.bf16:
            told.setdefault("float32 all the same: a model that bfloat16 is too coarse for", []).append(choice.label)
    return [f"{list_words(labels)}: {sentence}" for sentence, labels in told.items()]
