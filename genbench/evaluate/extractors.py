"""Feature extractors: shipped domain classifiers, torch-fidelity's networks, and a classifier trained on the dataset.

An extractor maps uint8 images to float64 features and, where it has classes, logits. Everything that identifies it is
in `describe()`, which travels with every number. Listing and checking names imports no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from genbench import store
from genbench.errors import BadInput, CorruptData, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from genbench.data import Dataset

CODE = 3
"""Version of the extraction; raise it when the same weights would give other features."""
BATCH, CPU_BATCH = 250, 64
"""Images at once: many keep a GPU busy, a few stay in a processor's cache."""
LOCAL = "local-classifier"
GENERAL = "inception-v3-compat"
SHIPPED_FOLDER = Path(__file__).parent.parent / "weights"

Network = Callable[["Tensor"], tuple["Tensor", "Tensor | None"]]
Progress = Callable[[int, int], None]
Registered = Mapping[str, tuple[Callable[[], Any], str]]


@dataclass(frozen=True)
class Features:
    """float64 features (N, d) and logits (N, classes), None where the extractor has no classes; on the CPU, finite."""

    features: Tensor
    logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def take(self, indices: np.ndarray) -> Features:
        """The features of some of the images, in the order of `indices`."""
        return Features(self.features[indices], None if self.logits is None else self.logits[indices])


class Runtime(Protocol):
    """Where weights and caches are, and whether the network may be used; a job's runtime says so."""

    @property
    def device(self) -> str: ...
    @property
    def cache(self) -> Path: ...
    @property
    def weights(self) -> Path | None: ...
    @property
    def offline(self) -> bool: ...


class Extractor:
    """A network from uint8 images (B, C, H, W) on `device` to features (B, d) and logits (B, classes) or None.

    `identity` holds all that tells it from another: weights' digest, layer, resize rule; `batch` is how many images it
    takes at once, which changes features by rounding alone.
    """

    def __init__(
        self, name: str, network: Network, dim: int, num_classes: int, identity: Mapping[str, Any],
        device: str = "cpu", batch: int | None = None,
    ) -> None:  # fmt: skip
        self.name, self.dim, self.num_classes = name, dim, num_classes
        self._network, self._identity, self._device = network, dict(identity), device
        self._batch = batch or (CPU_BATCH if device == "cpu" else BATCH)

    def describe(self) -> dict[str, Any]:
        """Plain data that is equal for two extractors only where they give the same features."""
        return {
            "name": self.name, "dim": self.dim, "num_classes": self.num_classes, "dtype": "float32", "code": CODE,
            **self._identity,
        }  # fmt: skip

    def features(self, images: np.ndarray, batch: int | None = None, progress: Progress | None = None) -> Features:
        """Features of uint8 images (N, C, H, W), in batches, in full float32 precision, returned as float64.

        Raises BadInput for anything but uint8 images, CorruptData naming the first image whose features are not finite.
        """
        import torch

        from genbench.devices import exact_arithmetic

        if images.dtype != np.uint8 or images.ndim != 4:
            raise BadInput(f"{self.name} takes uint8 images (N, C, H, W), not {images.dtype} of shape {images.shape}")
        exact_arithmetic()
        batch = batch or self._batch
        features, logits = [], []
        with torch.inference_mode():
            for start in range(0, len(images), batch):
                block = torch.from_numpy(np.ascontiguousarray(images[start : start + batch])).to(self._device)
                found, classes = self._network(block)
                self._check(found, classes, len(block))
                features.append(require_finite(found.cpu().double(), f"{self.name}: features", start))
                if classes is not None:
                    logits.append(require_finite(classes.cpu().double(), f"{self.name}: logits", start))
                store.release(images)
                if progress is not None:
                    progress(start + len(block), len(images))
        empty = torch.empty(0, self.dim, dtype=torch.float64)
        return Features(torch.cat(features) if features else empty, torch.cat(logits) if logits else None)

    def _check(self, features: Tensor, logits: Tensor | None, count: int) -> None:
        for what, tensor, width in (("features", features, self.dim), ("logits", logits, self.num_classes)):
            shape = None if tensor is None else tuple(tensor.shape)
            expected = (count, width) if width else None
            if shape != expected or (tensor is not None and str(tensor.dtype) != "torch.float32"):
                dtype = "" if tensor is None else f"{tensor.dtype} "
                raise CorruptData(f"{self.name}: {what} are {dtype}{shape}, they should be float32 {expected}")


def require_finite(features: Tensor, what: str, first: int = 0) -> Tensor:
    """The features themselves. Raises CorruptData naming the first row, counted from `first`, that is not finite."""
    if math.isfinite(float(features.sum())):
        return features
    finite = features.isfinite().flatten(1).all(1)
    if not finite.all():
        bad = first + int((~finite).nonzero()[0])
        raise CorruptData(f"{what}: those of image {bad} are not finite", "check the extractor's weights")
    return features


@cache
def pinned() -> dict[str, dict[str, Any]]:
    """torch-fidelity's extractors by name: file, address and SHA-256 of the weights, layer, dimension, input side."""
    table: dict[str, dict[str, Any]] = json.loads((SHIPPED_FOLDER / "pinned.json").read_text(encoding="utf-8"))
    return table


@cache
def shipped() -> dict[str, dict[str, Any]]:
    """The classifiers that come with genbench, by name: what their JSON files say."""
    files = sorted(SHIPPED_FOLDER.glob("*-classifier-*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def known_extractors() -> list[dict[str, Any]]:
    """One row an extractor that needs no plugin: name, kind, and what it is."""
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
    """The names asked for, else the dataset's own, else a local classifier where there are labels, else Inception."""
    default = LOCAL if dataset.num_classes > 1 else GENERAL
    return tuple(names) or dataset.extractors or (default,)


def check_extractors(
    names: Iterable[str], dataset: Dataset, runtime: Runtime, registered: Registered | None = None
) -> None:
    """Find, before anything runs, what would keep an extractor from working; fetches weights that are not there yet.

    Raises BadInput (unknown name, unsuitable dataset), EnvironmentProblem (no weights), CorruptData (wrong weights).
    """
    for name in extractor_names(names, dataset):
        _check_name(name, dataset, registered or {})
        if name in shipped():
            from genbench.evaluate.classifier import verify_classifier

            verify_classifier(SHIPPED_FOLDER / f"{name}.json")
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
        raise BadInput(f"{LOCAL} needs labels of at least 2 classes, {dataset.name!r} has none", f"use {GENERAL}")
    known = {*shipped(), *pinned(), LOCAL, *registered}
    if name not in known:
        raise BadInput(f"unknown extractor {name!r}", did_you_mean(name, known))


def extractor(name: str, dataset: Dataset, runtime: Runtime, registered: Registered | None = None) -> Extractor:
    """The named extractor, ready for the dataset's images on the runtime's device.

    `registered` are the plugins' own, by name: what builds them, and where they come from. Raises as check_extractors.
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
    """What tells each extractor from an earlier one of the same name, found without building it."""
    from genbench.evaluate.classifier import RECIPE

    known = {name: str(about["sha256"]) for name, about in (*shipped().items(), *pinned().items())}
    own = {name: store.source_digest(build) for name, (build, _) in (registered or {}).items()}
    return {name: f"{CODE} {own.get(name) or known.get(name) or RECIPE}" for name in names}


class _Foreign(Extractor):
    """A plugin's extractor, identified by the code of the plugin too: what it says of itself may lag behind that."""

    def __init__(self, built: Any, source: str) -> None:
        self.name, self.dim, self.num_classes = built.name, built.dim, built.num_classes
        self._built, self._source = built, source

    def describe(self) -> dict[str, Any]:
        return {**self._built.describe(), "source_sha256": self._source}

    def features(self, images: np.ndarray, batch: int | None = None, progress: Progress | None = None) -> Features:
        given = {} if batch is None else {"batch": batch}
        found: Features = self._built.features(images, progress=progress, **given)
        return found


def _foreign(name: str, build: Callable[[], Any], origin: str) -> Extractor:
    built = build()
    missing = [part for part in ("name", "dim", "num_classes", "describe", "features") if not hasattr(built, part)]
    if missing:
        raise BadInput(
            f"extractor {name!r} of {origin} has no {missing[0]}", "build a genbench.evaluate.extractors.Extractor"
        )
    return _Foreign(built, store.source_digest(build))
