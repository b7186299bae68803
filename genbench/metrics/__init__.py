"""Every metric of the core: the `METRICS` of a module here appear in records, tables, pages and reference rows.

Entries are `genbench.metrics.metric.Metric`. Importing them imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from genbench.metrics.case import Split
from genbench.metrics.metric import Metric

__all__ = ["Metric", "in_order", "is_likelihood", "metric_named", "metrics", "metrics_against", "metrics_in"]


@cache
def metrics() -> dict[str, Metric]:
    """The metrics of the core by name, in the order of a record.

    Raises ValueError if two modules have one of the same name.
    """
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    entries = [entry for module in modules for entry in getattr(module, "METRICS", ())]
    found = {entry.name: entry for entry in entries}
    if repeated := [entry.name for entry in entries if found[entry.name] is not entry]:
        raise ValueError(f"two metrics have the name {', '.join(repeated)}")
    return {name: found[name] for name in _sorted(found.values(), "record")}


def metric_named(name: str) -> Metric:
    """The metric of this name; one that the core does not have, such as a plugin's, has only its name."""
    return metrics().get(name) or Metric(name, name.replace("_", " "))


def metrics_in(layout: str) -> list[str]:
    """The metrics that have a place in a layout, in its order."""
    return _sorted((entry for entry in metrics().values() if layout in entry.places), layout)


def metrics_against(split: Split) -> list[str]:
    """The metrics that compare with images of this split."""
    return [entry.name for entry in metrics().values() if entry.split == split]


def in_order(names: Iterable[str], layout: str) -> list[str]:
    """The names: first those that have a place in the layout, then the others alphabetically."""
    return _sorted(map(metric_named, set(names)), layout)


def is_likelihood(name: str) -> bool:
    """Whether the metric is a likelihood, measured on the model itself and not on its samples."""
    return metric_named(name).family == "likelihood"


def _sorted(entries: Iterable[Metric], where: str) -> list[str]:
    return [entry.name for entry in sorted(entries, key=lambda entry: (entry.place(where), entry.name))]
