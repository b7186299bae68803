"""What sampling and scoring will take: as earlier runs took, or as a few images take that are tried on the model here.

Nothing is assumed of a device: what was neither measured nor can be tried within seconds is unknown.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from genbench.data.condition_plan import ConditionPlan
from genbench.devices import autocast, exact_arithmetic, synchronize, use_threads
from genbench.evaluate.extractors import Pretrained, extractor, kind_of
from genbench.evaluate.likelihood import bits_of, block_of, terms_of
from genbench.metering.flops import FlopCounter
from genbench.planning.estimate import TRIED_PARAMETERS, Estimate
from genbench.records.job import Job
from genbench.records.samples import BLOCK
from genbench.running.sample import draw
from genbench.support.text import duration, list_words
from genbench.training.phases import checked_phases

if TYPE_CHECKING:
    from genbench.data.dataset import Dataset
    from genbench.extension.registry import Plugins
    from genbench.model import Batch, Model

Call = Callable[[int], object]
"""Draws or scores so many images."""
TRIED_FLOPS = {"cpu": 3e10, "cuda": 3e13}
"""Of a call that is tried: a second or less."""
MOST_EVALUATIONS = 30_000
"""Of the network for a sample that is tried."""
ENOUGH = 32
"""Images of a call whose time grows with their number."""
SLOW_SECONDS = 2.0
"""What takes longer for one image is not tried on more."""
CALLS = 100
"""Calls of the network that a likelihood is taken to need at most where its FLOPs cannot be counted from shapes."""
TRIED_VALUES = 2**24
"""Pixels of the images that are tried, times channels: their memory."""
SURELY = 1.5
"""How many times the training's seconds those must be that were only tried, before they are announced as more."""
LEAST_SECONDS = 10.0
"""Less than this is not worth a word."""
EXTRACTED = 16
"""Images that a pretrained extractor is tried on."""


@dataclass(frozen=True)
class Part:
    """A part of sampling and scoring, the seconds that it takes, and the option that limits it."""

    what: str
    seconds: float
    option: str


@dataclass
class Outlay:
    """Seconds of one job: its training (None: unknown or done), what comes after it, and what of that is not known.

    `earlier` is the number of earlier runs that it is known from; 0 if a few images were tried.
    """

    train: float | None = None
    parts: list[Part] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    earlier: int = 0

    @property
    def seconds(self) -> float:
        """Of what comes after the training, as far as that is known."""
        return sum(part.seconds for part in self.parts)

    @property
    def method(self) -> str:
        """How the seconds are known."""
        runs = f"{self.earlier} earlier run{'s' * (self.earlier > 1)}"
        return f"as in {runs}" if self.earlier else "as a few images took that were tried here"

    @property
    def whole(self) -> float | None:
        """All seconds of the job; None if some are unknown."""
        return None if self.train is None or self.unknown else self.at_least

    @property
    def at_least(self) -> float:
        """The seconds of the job that are known."""
        return (self.train or 0.0) + self.seconds

    def without_training(self) -> Outlay:
        """The same for a job whose training is done, or another's."""
        return replace(self, train=0.0)

    def words(self) -> str:
        """`~12 s for 1,000 samples and ~30 s for bits/dim of 2,000 images, as ...; not known: ...`."""
        known = [f"~{duration(part.seconds)} for {part.what}" for part in self.parts]
        told = [f"{list_words(known)}, {self.method}"] if known else []
        return "; ".join([*told, *([f"not known: {list_words(self.unknown)}"] if self.unknown else [])])

    def warning(self) -> str:
        """That this takes longer than the training, with the options that limit it; "" unless that is known."""
        if not self.train:
            return ""
        least = self.train * (1 if self.earlier else SURELY)
        if self.seconds <= max(least, LEAST_SECONDS):
            return ""
        largest = sorted(self.parts, key=lambda part: -part.seconds)
        told = [f"~{duration(part.seconds)} for {part.what} (limit: {part.option})" for part in largest]
        return (
            f"sampling and scoring take ~{duration(self.seconds)}, more than the {duration(self.train)} of training: "
            f"{list_words(told)}; {self.method}"
        )


@dataclass
class Trials:
    """Tries models and extractors on a few images each, if this machine is the one that will run them."""

    plugins: Plugins
    rates: dict[tuple[str, str], float | None] = field(default_factory=dict)
    """Seconds per image by extractor and dataset."""

    def outlay(self, job: Job, about: Estimate, data: Dataset) -> Outlay:
        """What a job takes that draws samples from a model, from earlier runs if there are any."""
        past = about.earlier
        if past is not None and past.sample_seconds is not None and past.evaluate_seconds is not None:
            found = Outlay(past.train_seconds, earlier=past.runs)
            options = "--likelihood-images, --samples, --extractor"
            found.parts = [Part("scoring", past.evaluate_seconds, options)]
            if job.samples:
                found.parts.insert(0, Part(f"{job.samples:,} samples", past.sample_seconds, "--samples"))
        else:
            found = self.tried(job, about, data)
        if job.curve > 1:
            own = sum(part.seconds for part in found.parts if "bits/dim" not in part.what)
            found.parts.append(Part(f"{job.curve - 1} more points of the curve", (job.curve - 1) * own, "--curve"))
        return found

    def tried(self, job: Job, about: Estimate, data: Dataset) -> Outlay:
        """The same without earlier runs."""
        past = about.earlier
        found = Outlay(job.budget.amount if job.budget.is_timed else past.train_seconds if past else None)
        if job.runtime.executor != "local" or not data.digest:
            found.unknown = ["sampling and scoring, which can only be tried where the job runs, with its images"]
            return found
        use_threads(job.runtime.threads)
        exact_arithmetic()
        model = None if job.compile or about.parameters > TRIED_PARAMETERS else self.built(job, data)
        tried = None if model is None else Tried(job, model, data)
        ways: list[tuple[str, float | None, str]] = []
        if count := job.samples:
            drawn = None if (about.sample_nfe or 0) > MOST_EVALUATIONS else tried
            seconds = (
                None if drawn is None else drawn.seconds(drawn.draw, about.sample_flops_per_image, count, job.precision)
            )
            ways.append((f"{count:,} samples", seconds, "--samples"))
        if count := about.likelihood_images:
            seconds = (
                None if tried is None else tried.seconds(tried.score, about.likelihood_flops_per_image, count, "fp32")
            )
            ways.append((f"bits/dim of {count:,} images", seconds, "--likelihood-images"))
        found.unknown = [what for what, seconds, _ in ways if seconds is None]
        found.parts = [Part(what, seconds, option) for what, seconds, option in ways if seconds is not None]
        for name in job.evaluation.extractors if job.samples else ():
            if (rate := self.extracting(name, job, data)) is not None:
                what = f"their features in {name}"
                found.parts.append(Part(what, rate * job.samples, "--samples, or another --extractor"))
        return found

    def built(self, job: Job, data: Dataset) -> Model | None:
        """The model with values, untrained, on its device; None if it cannot be had."""
        kind, _ = self.plugins.model(job.model)
        with suppress(Exception):
            return kind(data.spec(job.kind), kind.Config(**job.config)).to(job.runtime.device).eval()
        return None

    def extracting(self, name: str, job: Job, data: Dataset) -> float | None:
        """Seconds per image of a pretrained network; None for small ones, which are quick, and if unknown."""
        registered = self.plugins.registered("register_extractors")
        if not isinstance(kind_of(name, registered), Pretrained):
            return None
        if (name, data.name) not in self.rates:
            self.rates[name, data.name] = None
            with suppress(Exception):
                own, images = extractor(name, data, job.runtime, registered), data.train.images[:EXTRACTED]
                own.features(images)
                self.rates[name, data.name] = timed(partial(own.features, images)) / len(images)
        return self.rates[name, data.name]


@dataclass
class Tried:
    """An untrained model, tried on a few training images."""

    job: Job
    model: Model
    data: Dataset

    @property
    def device(self) -> torch.device:
        return torch.device(self.job.runtime.device)

    def seconds(self, call: Call, flops: float | None, count: int, precision: str) -> float | None:
        """Seconds for `count` images, from a call for many or, if that takes too long, from FLOPs and their rate.

        A call that takes long by its FLOPs is never made; those that are not known are counted on one image, if that
        is quick. None if nothing of this is possible.
        """
        with suppress(Exception):
            flops = self.counted(call) if flops is None else flops
            size = self.most(flops)
            if size:
                call(1)
                if timed(partial(call, 1), self.device) > SLOW_SECONDS:  # not all operations have FLOPs
                    return None
            if size >= min(ENOUGH, count):
                return self.timed(partial(call, min(size, count))) * count / min(size, count)
            return None if (rate := self.rate(precision)) is None else flops * count / rate
        return None

    def most(self, flops: float) -> int:
        """How many images of so many FLOPs each may be tried."""
        few = int(TRIED_FLOPS[self.device.type] / max(flops, 1.0))
        return min(BLOCK, few, max(1, TRIED_VALUES // math.prod(self.data.shape)))

    def counted(self, call: Call) -> float:
        """The FLOPs of a call for one image. Raises OverflowError if it could take long."""
        phases = checked_phases(self.model)
        if CALLS * max(self.forward_flops(phase.name, 1) for phase in phases) > TRIED_FLOPS[self.device.type]:
            raise OverflowError
        counter = FlopCounter()
        with counter:
            call(1)
        return counter.flops

    def rate(self, precision: str) -> float | None:
        """FLOPs per second of a loss of the model on a batch, without gradients; None if none can be computed so."""
        for phase in reversed(checked_phases(self.model)):
            with suppress(Exception):
                alone = self.forward_flops(phase.name, 1)
                batch = self.batch(max(1, min(self.model.config.pieces_of(phase.batch_size)[0], self.most(alone))))
                return alone * len(batch) / self.timed(partial(self.loss, phase.name, batch, precision))
        return None

    def forward_flops(self, phase: str, size: int) -> float:
        counter = FlopCounter()
        batch = self.batch(size)
        self.model.prepare(phase, batch)
        with counter:
            self.loss(phase, batch, "fp32")
        return counter.flops

    @torch.no_grad()
    def loss(self, phase: str, batch: Batch, precision: str) -> None:
        with autocast(self.device, precision):
            self.model.loss(phase, batch)

    def batch(self, size: int) -> Batch:
        return block_of(self.job, self.model, self.data.train, np.arange(size) % len(self.data.train), 0)

    def timed(self, call: Callable[[], object]) -> float:
        """Seconds of the faster of two calls, after a first, which is slow."""
        call()
        return min(timed(call, self.device) for _ in range(2))

    def draw(self, size: int) -> None:
        draw(self.job, self.model, ConditionPlan.of(self.data, self.job.kind, size), 0, size)

    @torch.no_grad()
    def score(self, size: int) -> None:
        bits_of(self.model, self.batch(size), terms_of(self.model), "log_prob")  # type: ignore[arg-type]


def timed(call: Callable[[], object], device: torch.device | None = None) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    call()
    if device is not None:
        synchronize(device)
    return time.perf_counter() - began
