"""Which metrics may rank: those that see every spoilt set of images for what it is.

A difference counts if it is more than CLEAR standard errors of both values together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from genbench.evaluate.controls import COPIES, HALVES, LOSSES, NOISE, REAL
from genbench.metrics.metric import Metric
from genbench.records.ruler import Rung
from genbench.support.text import number

CLEAR = 3.0
ROUGH = 0.01
"""Where a value has no error: this share of the distance from real images to noise."""
FID_OF_HALVES = "fid_of_halves"
"""FID to one half of the test images, whose least is that of the other half."""
RELEVANT = {
    "everything": {"fidelity", "diversity", "classes", "everything"},
    "fidelity": {"fidelity", "everything"},
    "diversity": {"diversity", "classes", "everything"},
    "classes": {"classes", "everything"},
}
"""What the controls take away that a metric of each kind must see."""


def judge(rungs: list[Rung], metrics: Iterable[Metric], refusal: str = "") -> dict[str, str]:
    """Why each metric may not rank, by name; "" if it may. `refusal` says why the extractor is none for any of them.

    A metric that the ladder does not try, or that could not be measured on it, has no verdict.
    """
    tried, verdicts = {}, {}
    for metric in metrics:
        trial = Trial(metric, rungs)
        if metric.sees and trial.of(HALVES if metric.sees == "copies" else REAL):
            tried[metric.name] = next(trial.faults(), "")
    for metric in metrics:
        if (verdict := tried.get(metric.judged_as or metric.name)) is not None:
            verdicts[metric.name] = refusal or verdict
    return verdicts


@dataclass(frozen=True)
class Trial:
    """One metric on the rungs: `badness` is its value, turned so that more is worse."""

    metric: Metric
    rungs: list[Rung]

    @cached_property
    def measured(self) -> list[Rung]:
        return [rung for rung in self.rungs if self.metric.name in rung.values]

    @cached_property
    def real(self) -> Rung:
        return self.of(REAL)[0]

    @cached_property
    def noise(self) -> Rung:
        return self.of(NOISE)[0]

    @cached_property
    def ladders(self) -> list[list[Rung]]:
        """The rungs of each control that the metric must see, weakest first, behind the unspoilt images."""
        return self.ladders_of(*RELEVANT[self.metric.sees])

    def ladders_of(self, *losses: str) -> list[list[Rung]]:
        """The rungs of each control that takes one of these away."""
        found = []
        for control, loss in LOSSES.items():
            rungs = self.of(control) if loss in losses and control != NOISE else []
            if rungs:
                found.append(rungs if not rungs[0].strength else [self.real, *rungs])
        return found

    def of(self, control: str) -> list[Rung]:
        return [rung for rung in self.measured if rung.control == control]

    def value(self, rung: Rung) -> float:
        return rung.values[self.metric.name]

    def words(self, rung: Rung) -> str:
        """The value as text."""
        return number(self.value(rung), self.metric.style)

    def worse(self, rung: Rung, than: Rung) -> float:
        """By how many standard errors the first is worse; negative if it is better."""
        errors = [each.errors.get(self.metric.name) for each in (rung, than)]
        rough = ROUGH * abs(self.value(self.noise) - self.value(self.measured[0])) / CLEAR
        error = math.hypot(*(rough if each is None else each for each in errors))
        difference = self.value(rung) - self.value(than)
        difference = difference if self.metric.better == "lower" else -difference
        return difference / error if error else math.copysign(math.inf, difference) if difference else 0.0

    def faults(self) -> Iterator[str]:
        """What is wrong with the metric here, one sentence each, the worst first."""
        if not self.of(NOISE):
            yield "it could not be measured on noise"
        elif self.metric.sees == "copies":
            yield from self.blind_to_copies()
        else:
            yield from self.noise_not_worst()
            yield from self.real_not_best()
            yield from self.not_monotone()
            yield from self.halves_not_nearest()

    def noise_not_worst(self) -> Iterator[str]:
        """Noise must be worse than real images, and no better than images whose fidelity is spoilt less than fully."""
        if self.worse(self.noise, self.real) <= CLEAR:
            yield f"uniform noise scores {self.words(self.noise)}, held-out real images {self.words(self.real)}"
        for rung in (rung for ladder in self.ladders_of("fidelity") for rung in ladder[:-1]):
            if self.worse(rung, self.noise) > CLEAR:
                yield (
                    f"uniform noise scores {self.words(self.noise)}, better than real images with {described(rung)}, "
                    f"{self.words(rung)}"
                )

    def real_not_best(self) -> Iterator[str]:
        """Nothing may be better than held-out real images; but what has less diversity may have a higher fidelity."""
        seen = self.ladders if self.metric.sees == "fidelity" else self.ladders_of(*LOSSES.values())
        for rung in (rung for ladder in seen for rung in ladder[1:]):
            if self.worse(self.real, rung) > CLEAR:
                yield (
                    f"real images with {described(rung)} score {self.words(rung)}, better than without, "
                    f"{self.words(self.real)}"
                )

    def not_monotone(self) -> Iterator[str]:
        """Each rung must be no better than the one before, and the last worse than the first."""
        for ladder in self.ladders:
            for weaker, stronger in pairwise(ladder):
                if self.worse(weaker, stronger) > CLEAR:
                    yield (
                        f"{stronger.control} improves it, from {self.words(weaker)} at {weaker.strength} to "
                        f"{self.words(stronger)} at {stronger.strength}"
                    )
            if self.worse(ladder[-1], ladder[0]) <= CLEAR:
                yield (
                    f"it hardly sees {described(ladder[-1])}: {self.words(ladder[-1])}, "
                    f"and {self.words(ladder[0])} without"
                )

    def halves_not_nearest(self) -> Iterator[str]:
        """The halves of the test images must be nearer to each other than spoilt images are."""
        if not self.metric.name.startswith("fid"):
            return
        halves = next(rung for rung in self.rungs if rung.control == HALVES).values.get(FID_OF_HALVES)
        if halves is None:
            return
        for rung in (ladder[-1] for ladder in self.ladders):
            if (distance := rung.values.get(FID_OF_HALVES)) is not None and distance <= halves:
                yield (
                    f"real images with {described(rung)} are nearer to half of the test images than the other half, "
                    f"{number(distance, 'fid')} and {number(halves, 'fid')}"
                )

    def blind_to_copies(self) -> Iterator[str]:
        """Copies must stand out, and noise must not."""
        (half,), copies = self.of(HALVES), self.of(COPIES)
        if copies and self.worse(copies[0], half) <= CLEAR:
            yield f"copies of training images score {self.words(copies[0])}, held-out ones {self.words(half)}"
        if self.worse(self.noise, half) > CLEAR:
            yield f"uniform noise scores {self.words(self.noise)}, held-out real images {self.words(half)}"


def described(rung: Rung) -> str:
    """`blur (σ 0.14 of the side)`."""
    return f"{rung.control} ({rung.strength})" if rung.strength else rung.control
