"""The ruler of a dataset and an extractor: how its metrics score real images that are spoilt more and more.

A ladder's first rung is held-out real images, and each further rung spoils the same images more. A metric may rank
models only if it tells the rungs apart (`genbench.evaluate.verdicts`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from genbench.data.dataset import Dataset
from genbench.evaluate.controls import CLASS_SHARES, CLASSES, CONTROLS, COPIES, HALVES, REAL, Control, leave_out
from genbench.evaluate.extractor import Extractor
from genbench.evaluate.features import PIXELS, reference_features
from genbench.evaluate.fidelity import measure
from genbench.evaluate.held_out import held_out_first
from genbench.evaluate.parts import stored
from genbench.evaluate.verdicts import FID_OF_HALVES, judge
from genbench.metrics import metrics
from genbench.metrics.case import Case
from genbench.metrics.features import Features
from genbench.metrics.frechet import fid
from genbench.metrics.value import Value
from genbench.records.protocol import EvaluationSettings, versions
from genbench.records.ruler import Ruler, Rung
from genbench.support import digests, store
from genbench.support.lock import awaited
from genbench.support.progress import report, stop_if_requested
from genbench.support.sealed import write_sealed
from genbench.support.seeds import derive_seed

LADDER = 2
"""Version of the controls and of what is asked of a metric; raise it when a verdict could change."""
KID_SUBSETS, ERROR_SPLITS = 10, 5
"""Fewer than for rows: a ladder's differences are coarse."""


def ruler_of(own: Extractor, data: Dataset, count: int, settings: EvaluationSettings, cache: Path) -> Ruler:
    """The ruler for rows of `count` images, from the cache or made now; a second process waits for the first.

    The key covers all that a verdict depends on.
    """
    settings = settings.model_copy(
        update={
            "extractors": (), "kid_subsets": KID_SUBSETS, "error_splits": ERROR_SPLITS, "allow_rank_deficient": True,
        }
    )  # fmt: skip
    ladder = Ladder(own, data, count, settings, cache)
    behind = {
        "version": LADDER, "dataset": data.digest, "pixels": PIXELS, "extractor": own.describe(),
        "images": ladder.count,
        "settings": settings.model_dump(mode="json"), "versions": versions(),
    }  # fmt: skip
    folder = cache / "rulers" / f"{own.name}-{data.name}-{digests.settings_digest(behind)[:16]}"
    file = folder / "ruler.json"
    with awaited(folder):
        if (plain := stored(file)) is None:
            plain = ladder.ruler().model_dump(mode="json")
            write_sealed(file, plain)
        return Ruler.model_validate(plain)


@dataclass
class Ladder:
    """The rungs for rows of at most `wanted` images, as many as the extractor has not been trained on."""

    own: Extractor
    data: Dataset
    wanted: int
    settings: EvaluationSettings
    cache: Path

    @cached_property
    def count(self) -> int:
        """Images of a rung."""
        return min(self.wanted, self.own.most_controls, len(self.pool))

    @cached_property
    def pool(self) -> np.ndarray:
        """Indices of training images that the extractor has not been trained on, in a seeded order."""
        indices, unseen = held_out_first(self.data, self.settings.seed)
        return indices[:unseen] if self.own.about else indices

    @cached_property
    def test(self) -> Features:
        return reference_features(self.own, self.data, "test", self.cache)

    @cached_property
    def train(self) -> Features:
        return reference_features(self.own, self.data, "train", self.cache, self.settings)

    @cached_property
    def halves(self) -> tuple[Features, Features]:
        """Two disjoint halves of the test images, each of no more images than a rung."""
        order = np.random.default_rng(derive_seed(self.settings.seed, "test halves")).permutation(len(self.test))
        size = min(self.count, len(order) // 2)
        return self.test.take(order[:size]), self.test.take(order[size : 2 * size])

    def ruler(self) -> Ruler:
        """All rungs, and the verdicts on every metric."""
        rungs = list(self.rungs())
        return Ruler(
            extractor=self.own.name, images=self.count, reference_images=len(self.test), about=dict(self.own.about),
            verdicts=judge(rungs, metrics().values(), self.own.refusal), rungs=rungs,
        )  # fmt: skip

    def rungs(self) -> Iterator[Rung]:
        """Every rung: the real images first, then each control in rising strength."""
        images = self.images(self.pool[: self.count])
        yield self.rung(REAL, "", self.own.features(images))
        yield self.of_halves()
        yield from self.of_classes()
        for place, control in enumerate(CONTROLS):
            report("evaluate", place / len(CONTROLS), f"trying the ruler {self.own.name}")
            for strength in control.strengths:
                stop_if_requested()
                yield self.spoilt(control, strength, images)
        yield self.of_copies()

    def spoilt(self, control: Control, strength: float, images: np.ndarray) -> Rung:
        """The rung of the images after a control."""
        random = np.random.default_rng(derive_seed(self.settings.seed, "control", control.name))
        features = self.own.features(control.spoil(images, strength, random))
        rung = self.rung(control.name, control.words(strength), features)
        return self.with_copying(rung, features) if control.loss == "everything" else rung

    def of_halves(self) -> Rung:
        """One half of the test images, compared with the other."""
        ours, other = self.halves
        return self.with_copying(Rung(control=HALVES, strength="", values=self.distance(ours)), ours, other)

    def of_copies(self) -> Rung:
        """Training images."""
        order = np.random.default_rng(derive_seed(self.settings.seed, "copies")).permutation(len(self.train))
        features = self.train.take(order[: self.count])
        return self.with_copying(self.rung(COPIES, "", features), features)

    def with_copying(self, rung: Rung, features: Features, held_out: Features | None = None) -> Rung:
        """The rung, with the metrics of copying too: they compare with the training images."""
        case = Case(features, self.settings, self.train, held_out=held_out or self.test)
        wanted = {metric.measure for metric in metrics().values() if metric.sees == "copies" and metric.measure}
        found = {name: each.value for function in wanted for name, each in function(case).items()}
        return rung.model_copy(
            update={"values": rung.values | values_of(found), "errors": rung.errors | errors_of(found)}
        )

    def of_classes(self) -> Iterator[Rung]:
        """Real images of ever fewer classes, all rungs of equally many images; the first has all classes."""
        labels = self.data.train.labels
        if labels is None or self.data.num_classes < 2:
            return
        kept = [leave_out(labels[self.pool], self.data.num_classes, share) for share in CLASS_SHARES]
        size = min(self.count, *map(len, kept))
        for share, places in zip((0.0, *CLASS_SHARES), (np.arange(len(self.pool)), *kept)):
            features = self.own.features(self.images(self.pool[places[:size]]))
            yield self.rung(CLASSES, f"{share:.0%} of them" if share else "", features)

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Training images, uint8 (n, C, H, W)."""
        found = np.asarray(self.data.train.images[indices])
        store.release(self.data.train.images)
        return found

    def rung(self, control: str, strength: str, features: Features) -> Rung:
        """The values of every metric that compares with the test images."""
        found = {name: each.value for name, each in measure(Case(features, self.settings, test=self.test)).items()}
        values = values_of(found) | self.distance(features)
        return Rung(control=control, strength=strength, values=values, errors=errors_of(found))

    def distance(self, features: Features) -> dict[str, float]:
        """FID to one half of the test images, from as many images; nothing if there are fewer, or too few for a FID."""
        other = self.halves[1]
        if len(features) < len(other):
            return {}
        found = fid(features.features[: len(other)], other.features, allow_rank_deficient=True)
        return values_of({FID_OF_HALVES: found})


def values_of(found: Mapping[str, Value]) -> dict[str, float]:
    """The numbers by metric, of those that have one."""
    return {name: each.value for name, each in found.items() if each.value is not None}


def errors_of(found: Mapping[str, Value]) -> dict[str, float]:
    """The standard errors by metric, of those that have one."""
    return {name: each.stderr for name, each in found.items() if each.stderr is not None}
