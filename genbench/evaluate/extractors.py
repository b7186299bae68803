"""Feature extractors: bundled domain classifiers, torch-fidelity's networks, and a classifier trained on the dataset.

An extractor maps uint8 images to float64 features and, if it has classes, logits. Everything that identifies it is in
`describe()`, which is stored with every number. Listing and checking names imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from genbench.evaluate.extractor import SHIPPED_FOLDER, BatchProgress, Extractor, stamped
from genbench.evaluate.pretrained import pinned
from genbench.metrics.features import Features
from genbench.support import digests
from genbench.support.errors import BadInput, did_you_mean

if TYPE_CHECKING:
    from genbench.data.dataset import Dataset

LOCAL = "local-classifier"
GENERAL = "inception-v3-compat"

Registered = Mapping[str, tuple[Callable[[], Any], str]]


class Resources(Protocol):
    """Where weights and caches are, and whether the network may be used; a job's `Runtime` is one."""

    @property
    def device(self) -> str: ...
    @property
    def cache(self) -> Path: ...
    @property
    def weights(self) -> Path | None: ...
    @property
    def offline(self) -> bool: ...


@cache
def shipped() -> dict[str, dict[str, Any]]:
    """The contents of the bundled classifiers' JSON files, by name."""
    files = sorted(SHIPPED_FOLDER.glob("*-classifier-*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def known_extractors() -> list[dict[str, Any]]:
    """One row per extractor that needs no plugin: name, kind, and what it is."""
    rows = [{"name": name, "kind": "shipped", "about": about["about"]} for name, about in shipped().items()]
    rows.append(
        {"name": LOCAL, "kind": "local", "about": "a classifier trained on the dataset's labels, kept in the cache"}
    )
    for name, about in pinned().items():
        rows.append(
            {"name": name, "kind": "torch-fidelity", "about": f"{about['dim']} features, weights {about['file']}"}
        )
    return rows


def extractor_names(names: Iterable[str], dataset: Dataset) -> tuple[str, ...]:
    """The requested names, else the dataset's, else a local classifier if there are labels, else Inception."""
    default = LOCAL if dataset.num_classes > 1 else GENERAL
    return tuple(names) or dataset.extractors or (default,)


def check_extractors(
    names: Iterable[str], dataset: Dataset, runtime: Resources, registered: Registered | None = None
) -> None:
    """Check before anything runs that the extractors will work; downloads missing weights.

    Raises BadInput (unknown name, unsuitable dataset), EnvironmentProblem (no weights), CorruptData (wrong weights).
    """
    for name in extractor_names(names, dataset):
        _check_name(name, dataset, registered or {})
        if name in shipped():
            from genbench.evaluate.classifier import verify_classifier

            verify_classifier(SHIPPED_FOLDER / f"{name}.json")
        elif name == LOCAL:
            from genbench.evaluate.classifier import local_file, verify_classifier

            if (file := local_file(dataset.digest, runtime.cache)).exists():
                verify_classifier(file)
        elif name in pinned():
            from genbench.evaluate.pretrained import find_code, find_weights

            find_weights(name, runtime.weights, runtime.offline)
            find_code(name, runtime.weights)


def _check_name(name: str, dataset: Dataset, registered: Registered) -> None:
    own = shipped().get(name)
    if own is not None and tuple(own["shape"]) != dataset.shape:
        wanted, has = ("x".join(map(str, shape)) for shape in (own["shape"], dataset.shape))
        raise BadInput(f"{name} takes {wanted} images, {dataset.name!r} has {has}", f"use {LOCAL} or {GENERAL}")
    if name == LOCAL and dataset.num_classes < 2:
        raise BadInput(f"{LOCAL} needs labels of at least 2 classes; {dataset.name!r} has none", f"use {GENERAL}")
    known = {*shipped(), *pinned(), LOCAL, *registered}
    if name not in known:
        raise BadInput(f"unknown extractor {name!r}", did_you_mean(name, known))


def extractor(name: str, dataset: Dataset, runtime: Resources, registered: Registered | None = None) -> Extractor:
    """The named extractor, ready for the dataset's images on the runtime's device.

    `registered` are the plugins' extractors by name: their builder and their origin. Raises as `check_extractors`.
    """
    _check_name(name, dataset, registered or {})
    if registered and name in registered:
        return _foreign(name, *registered[name])
    if name in pinned():
        from genbench.evaluate.pretrained import pretrained

        return pretrained(name, dataset.shape[0], runtime.weights, runtime.offline, runtime.device)
    from genbench.evaluate.classifier import load_classifier, local_classifier

    if name in shipped():
        file = SHIPPED_FOLDER / f"{name}.json"
    else:
        file = local_classifier(dataset, runtime.cache, runtime.device)
    model, facts = load_classifier(file, runtime.device)
    identity = {
        "weights_sha256": facts.sha256, "layer": "penultimate", "resize": "none", "local": name == LOCAL,
        "trained_on": facts.trained_on,
    }  # fmt: skip
    return Extractor(name, model, model.dim, model.num_classes, identity, runtime.device)


def extractor_stamps(names: Iterable[str], registered: Registered | None = None) -> dict[str, str]:
    """What distinguishes each extractor from earlier ones of its name, computed without building it."""
    from genbench.evaluate.classifier import RECIPE

    known = {name: str(about["sha256"]) for name, about in (*shipped().items(), *pinned().items())}
    own = {name: digests.source_digest(build) for name, (build, _) in (registered or {}).items()}
    return {name: stamped(own.get(name) or known.get(name) or str(RECIPE)) for name in names}


class _Foreign(Extractor):
    """A plugin's extractor, also identified by the plugin's code, with which its `describe` may not keep up."""

    def __init__(self, built: Any, source: str) -> None:
        self.name, self.dim, self.num_classes = built.name, built.dim, built.num_classes
        self._built, self._source = built, source

    def describe(self) -> dict[str, Any]:
        return {**self._built.describe(), "source_sha256": self._source}

    def features(self, images: np.ndarray, batch: int | None = None, progress: BatchProgress | None = None) -> Features:
        given = {} if batch is None else {"batch": batch}
        found: Features = self._built.features(images, progress=progress, **given)
        return found


def _foreign(name: str, build: Callable[[], Any], origin: str) -> Extractor:
    built = build()
    missing = [part for part in ("name", "dim", "num_classes", "describe", "features") if not hasattr(built, part)]
    if missing:
        raise BadInput(
            f"extractor {name!r} of {origin} has no {missing[0]}",
            "return a genbench.Extractor from the registered function",
        )
    return _Foreign(built, digests.source_digest(build))
