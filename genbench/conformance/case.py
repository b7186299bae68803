"""What the conformance kit checks a model on: small images of known entropy and the harness's own training loop."""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from genbench.capabilities import Classifier, Likelihood, Reconstruction, defines
from genbench.condition import Kind
from genbench.conformance.conditions import ALIKE, CLASSES, TOLD, told
from genbench.conformance.places import SourceLine, innermost, own_sources
from genbench.conformance.process_state import shared_state
from genbench.data.condition_plan import ConditionPlan, conditions_of
from genbench.data.dataset import Dataset, Part
from genbench.data.mixture import Mixture, make_mixture
from genbench.metering.meter import Meter
from genbench.model import Batch, Config, DataSpec, Model
from genbench.records.budget import Budget
from genbench.records.job import Job, Runtime
from genbench.records.record import Entropy, PluginStamp
from genbench.support.errors import Diverged
from genbench.support.validation import checked
from genbench.training.train import train

STEPS = 6
NOISE_STEPS, NOISE_RATE = 100, 1e-2
"""Steps on noise, and the least learning rate: enough for a density of few parameters to come near the noise's."""
COUNT = 6
"""Images per batch and per call of sample()."""
PROGRESSES = (0.0, 0.9)
"""Shares of a phase's span at which its loss is computed: a warm-up begins at 0."""
MORE = 24
"""Images over which a likelihood is averaged."""
NOISE_IMAGES = 256
SIDES = {1: (8, 16, 32, 64), 3: (16, 32, 64)}
"""Sides of gray and of colour images to try: the first that the model accepts is used."""


@cache
def mixture(shape: tuple[int, int, int]) -> Mixture:
    """A distribution of images of known entropy, one component per class."""
    return make_mixture(shape, CLASSES, rank=3, noise=6.0, seed=0)


@cache
def entropy(shape: tuple[int, int, int], kind: Kind | None) -> Entropy:
    """The entropy of `mixture`, bits/dim."""
    return mixture(shape).entropy(kind == "class")


def drawn_images(shape: tuple[int, int, int], seed: int) -> Part:
    """48 images drawn from `mixture`."""
    ((levels, labels),) = mixture(shape).draw(48, seed)
    return part_of(levels.reshape(-1, *shape), labels.astype(np.int64))


def noise_images(shape: tuple[int, int, int], seed: int) -> Part:
    """NOISE_IMAGES images of which every level is as likely."""
    levels = np.random.default_rng(seed).integers(0, 256, (NOISE_IMAGES, *shape), dtype=np.uint8)
    return part_of(levels, np.arange(NOISE_IMAGES) % CLASSES)


def part_of(images: np.ndarray, labels: np.ndarray) -> Part:
    """A split of images with all that a model may be conditioned on."""
    own = told(images.shape[1:])
    sizes = {kind: each.spec(images.shape[1:]).size for kind, each in own.items()}
    return Part(images, labels, {kind: each.of(images, labels) for kind, each in own.items()}, sizes)


@dataclass(frozen=True)
class Case:
    """One model on one kind of image, and the kind of what it is conditioned on, if it is."""

    model: type[Model]
    config: Config
    shape: tuple[int, int, int]
    kind: Kind | None = None
    device: str = "cpu"
    noise: bool = False
    """Whether the images are uniform noise, on which it is trained for longer."""

    def __str__(self) -> str:
        return "x".join(map(str, self.shape)) + (f" with {conditions_of(self.kind).words}" if self.kind else "")

    @cached_property
    def data(self) -> Dataset:
        """48 training and 48 test images, whose appearance depends on the class."""
        draw = noise_images if self.noise else drawn_images
        train, test = (draw(self.shape, seed) for seed in (0, 1))
        conditions = tuple(each.spec(self.shape) for each in told(self.shape).values())
        return Dataset(
            "kit", "", "0" * 64, self.shape, CLASSES, (), 0, Path(), train, test, conditions=conditions
        )  # fmt: skip

    @property
    def draws(self) -> bool:
        """Whether the model has a method `sample`."""
        return defines(self.model, "sample")

    @cached_property
    def spec(self) -> DataSpec:
        return self.data.spec(self.kind)

    @cached_property
    def plan(self) -> ConditionPlan:
        """What COUNT samples are drawn under: the conditions in turn."""
        return self._planned(np.arange(COUNT) % CLASSES)

    def same(self, number: int) -> ConditionPlan:
        """A plan of COUNT samples under one and the same condition."""
        return self._planned(np.full(COUNT, number))

    def _planned(self, numbers: np.ndarray) -> ConditionPlan:
        return ConditionPlan(conditions_of(self.kind), numbers, self.data.test)

    def as_batch(self, part: Part, count: int | None = None) -> Batch:
        """The first images of a split as the model sees them."""
        indices = np.arange(len(part))[:count]
        levels = torch.from_numpy(part.images[indices]).to(self.device)
        given = conditions_of(self.kind).given(part, indices, self.device)
        return Batch.of_levels(levels, given, self.model.discrete, seed=0)

    @cached_property
    def batch(self) -> Batch:
        """Training images."""
        return self.as_batch(self.data.train, COUNT)

    @cached_property
    def test(self) -> Batch:
        """MORE test images."""
        return self.as_batch(self.data.test, MORE)

    def build(self, seed: int = 0) -> Model:
        """The model, untrained."""
        torch.manual_seed(seed)
        return self.model(self.spec, self.config).to(self.device)

    def prepared(self, phase: str) -> Model:
        """The model as it is when a phase begins, except that earlier phases were not trained."""
        model = self.build().train()
        for each in model.phases():
            with torch.no_grad():
                model.prepare(each.name, self.batch)
            if each.name == phase:
                break
        return model

    def loss(self, model: Model, phase: str, progress: float = 0.0) -> dict[str, Tensor]:
        """The losses of the batch at a share of the phase's span, by name."""
        torch.manual_seed(1)
        outcome = model.loss(phase, replace(self.batch, progress=progress))
        return outcome if isinstance(outcome, dict) else {"loss": outcome}

    @cached_property
    def job(self) -> Job:
        """STEPS steps of training, or NOISE_STEPS on noise, as the harness plans them."""
        return Job(
            model=self.model.name, label=self.model.name, plugin=PluginStamp(name="kit", version=""), dataset="kit",
            dataset_digest=self.data.digest, samples=COUNT,
            conditional=self.kind is not None, condition=self.data.condition(self.kind),
            budget=Budget(unit="steps", amount=NOISE_STEPS if self.noise else STEPS),
            runtime=Runtime(device=self.device),
        )  # fmt: skip

    def train(self) -> Model:
        """The model after the steps of the job in the harness's own loop."""
        with tempfile.TemporaryDirectory() as folder:
            meter = Meter(torch.device(self.device))
            with meter.training():
                return train(self.job, self.build(), self.data, Path(folder), meter)

    @cached_property
    def trained(self) -> Model:
        return self.train()

    @property
    def first(self) -> bool:
        """Whether it is the case on which a model is tried at length: gray images without a condition."""
        return self.shape[0] == 1 and self.kind is None

    @cached_property
    def trained_on_noise(self) -> Model:
        """The model after NOISE_STEPS steps on noise; `trained` if that diverges or this is not the `first` case."""
        rate = max(self.config.learning_rate, NOISE_RATE)
        config = self.config.model_copy(update={"learning_rate": rate})
        try:
            return replace(self, noise=True, config=config).train() if self.first else self.trained
        except Diverged:
            return self.trained

    @torch.no_grad()
    def sample(self, model: Model, seed: int = 1, plan: ConditionPlan | None = None) -> Tensor:
        """COUNT images, by default under the conditions in turn."""
        torch.manual_seed(seed)
        return model.eval().sample(COUNT, (plan or self.plan).given(0, COUNT, self.device))

    @property
    def movable(self) -> Model:
        """A copy of the trained model whose parameters can receive gradients, as after loading from disk."""
        return copy.deepcopy(self.trained).requires_grad_(True)

    @cached_property
    def drawn(self) -> Tensor:
        """The trained model's samples from seed 1."""
        return self.sample(self.trained)

    @torch.no_grad()
    def log_prob(self, model: Model, batch: Batch, seed: int = 1) -> Tensor:
        """Nats per image."""
        assert isinstance(model, Likelihood)
        torch.manual_seed(seed)
        return model.eval().log_prob(batch.images, batch.given)

    @torch.no_grad()
    def reconstruct(self, model: Model) -> Tensor:
        """What the model makes of the training batch."""
        assert isinstance(model, Reconstruction)
        torch.manual_seed(1)
        return model.eval().reconstruct(self.batch.images, self.batch.given)

    @torch.no_grad()
    def classify(self, model: Model) -> Tensor:
        """The model's logits for the training batch."""
        assert isinstance(model, Classifier)
        torch.manual_seed(1)
        return model.eval().classify(self.batch.images)

    @cached_property
    def nats(self) -> Tensor:
        """The trained model's log-likelihood of the training batch, nats per image."""
        return self.log_prob(self.trained, self.batch)

    @cached_property
    def touched(self) -> dict[str, str]:
        """Process-wide state that the model changes, by name, and the first method that does."""
        name = self.build().phases()[0].name
        model, found = self.prepared(name), dict[str, str]()
        calls: dict[str, Callable[[], object]] = {
            "__init__": self.build,
            "prepare": lambda: self.prepared(name),
            "loss": lambda: self.loss(model.train(), name),
        }
        if self.draws:
            calls["sample"] = lambda: self.sample(self.trained)
        if isinstance(model, Likelihood):
            calls["log_prob"] = lambda: self.log_prob(self.trained, self.batch)
        if isinstance(model, Reconstruction):
            calls["reconstruct"] = lambda: self.reconstruct(self.trained)
        if isinstance(model, Classifier) and self.kind == "class":
            calls["classify"] = lambda: self.classify(self.trained)
        for method, call in calls.items():
            before = shared_state()
            call()
            for what, value in shared_state().items():
                if value != before[what]:
                    found.setdefault(what, method)
        return found

    @contextmanager
    def births(self) -> Iterator[dict[int, SourceLine]]:
        """Within the block, record the line of the model's own code that made each parameter, by the parameter's id."""
        sources, found = own_sources(self.model), dict[int, SourceLine]()

        def note(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
            place = innermost(sys._getframe(1), sources)
            if parameter is not None and place is not None:
                found.setdefault(id(parameter), place)

        handle = register_module_parameter_registration_hook(note)
        try:
            yield found
        finally:
            handle.remove()


def cases(model: type[Model], preset: str | None = None, device: str = "cpu", **options: Any) -> Iterator[Case]:
    """Gray and colour images, and those with what the model can use; by default in the preset `tiny`, if there is one.

    `options` are the model's own, on top of the preset. Sizes are the smallest that `Config.check` accepts.
    """
    name = preset or ("tiny" if "tiny" in model.presets else None)
    settings = {**(model.presets[name] if name else {}), **options}
    where = f"preset {name!r}" if name and not options else "the options"
    config = checked(model.Config, settings, lambda keys: where, "Config lists what can be set")
    config = config.model_copy(update={"batch_size": 8, "micro_batch": 0})
    wanted: list[tuple[int, Kind | None]] = [(1, None), (3, None)]
    wanted += [(1, "class")] if "class" in model.kinds() else []
    if preset is None and not options:
        listed = [[kind for kind in alike if kind in model.kinds()][:1] for alike in ALIKE]
        wanted += [(1, kind) for first in listed for kind in first]
    shapes = [_smallest(config, channels, kind) for channels, kind in wanted]
    if not any(shapes):
        shapes[0] = (1, SIDES[1][0], SIDES[1][0])  # refused, with the model's own reason
    for shape, (_, kind) in zip(shapes, wanted):
        if shape is not None:
            yield Case(model, config, shape, kind, device)


def _smallest(config: Config, channels: int, kind: Kind | None) -> tuple[int, int, int] | None:
    """The smallest images that the options accept."""
    for side in SIDES[channels]:
        shape = (channels, side, side)
        try:
            condition = TOLD[kind].spec(shape) if kind is not None and kind in TOLD else None
            config.check(DataSpec("kit", shape, CLASSES if kind == "class" else 0, condition))
        except ValueError:
            continue
        return shape
    return None
