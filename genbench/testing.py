"""The conformance kit: what every model promises, checked on small images. For authors and for genbench's own tests.

In a plugin's tests: `from genbench.testing import check_model`, then `check_model(MyModel)`.
"""

from __future__ import annotations

import copy
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genbench.capabilities import BoundTerms, Likelihood
from genbench.config import Budget
from genbench.cost import Meter
from genbench.data import Dataset, Part
from genbench.images import bits_per_dim, dequantize, to_float
from genbench.model import Batch, Config, DataSpec, Model
from genbench.plan import Job
from genbench.plugins import describe, load_plugins
from genbench.records import PluginStamp
from genbench.signals import is_interruption
from genbench.train import checked_loss, checked_phases, train

STEPS = 6
CLASSES = 3


@dataclass(frozen=True)
class Case:
    """One model on one kind of image, conditional or not."""

    model: type[Model]
    config: Config
    shape: tuple[int, int, int]
    conditional: bool

    @cached_property
    def data(self) -> Dataset:
        """48 images of blobs whose brightness depends on the class."""
        generator = np.random.default_rng(0)
        labels = np.arange(48) % CLASSES
        images = generator.integers(0, 60, (48, *self.shape)) + 60 * labels[:, None, None, None]
        part = Part(images.astype(np.uint8), labels)
        return Dataset("blobs", "", "0" * 64, self.shape, CLASSES, (), 0, Path(), part, part)

    @cached_property
    def spec(self) -> DataSpec:
        return self.data.spec(self.conditional)

    @cached_property
    def labels(self) -> Tensor | None:
        return torch.arange(6) % CLASSES if self.conditional else None

    @cached_property
    def batch(self) -> Batch:
        levels = torch.from_numpy(self.data.train.images[:6])
        images = to_float(levels) if self.model.discrete else dequantize(levels, torch.Generator().manual_seed(0))
        return Batch(images, self.labels)

    def build(self) -> Model:
        torch.manual_seed(0)
        return self.model(self.spec, self.config)

    def train(self) -> Model:
        """The model after STEPS steps of the harness's own loop."""
        job = Job(
            model=self.model.name, label=self.model.name, plugin=PluginStamp(name="kit", version=""), dataset="blobs",
            dataset_digest=self.data.digest, conditional=self.conditional, samples=6,
            budget=Budget(unit="steps", amount=STEPS),
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            meter = Meter(torch.device("cpu"))
            with meter.training():
                return train(job, self.build(), self.data, Path(folder), meter)

    @cached_property
    def trained(self) -> Model:
        return self.train()

    @torch.inference_mode()
    def sample(self, model: Model, seed: int = 1) -> Tensor:
        torch.manual_seed(seed)
        return model.eval().sample(6, self.labels)

    @torch.inference_mode()
    def log_prob(self, model: Model, images: Tensor, labels: Tensor | None) -> Tensor:
        assert isinstance(model, Likelihood)
        torch.manual_seed(1)
        return model.eval().log_prob(images, labels)


Promise = Callable[[Case], None]
PROMISES: dict[str, Promise] = {}


def promise(text: str) -> Callable[[Promise], Promise]:
    def keep(check: Promise) -> Promise:
        PROMISES[text] = check
        return check

    return keep


@promise("every option says what changing it invalidates")
def options_have_roles(case: Case) -> None:
    for name in case.config.__class__.model_fields:
        case.config.role(name)


@promise("every phase gives a finite scalar loss")
def losses(case: Case) -> None:
    model = case.build()
    for phase in checked_phases(model):
        model.prepare(phase.name, case.batch)
        outcome = model.loss(phase.name, case.batch)
        loss = checked_loss(outcome if isinstance(outcome, dict) else {"loss": outcome}, phase)
        assert loss.isfinite(), f"loss({phase.name!r}) = {loss.item()}"


@promise("every parameter belongs to a phase and gets a gradient")
def gradients(case: Case) -> None:
    model = case.build()
    moved: set[int] = set()
    for phase in model.phases():
        model.prepare(phase.name, case.batch)
        model.zero_grad()
        outcome = model.loss(phase.name, case.batch)
        (outcome["loss"] if isinstance(outcome, dict) else outcome).backward()  # type: ignore[no-untyped-call]
        parameters = {id(p): p for group in phase.optimizer.param_groups for p in group["params"]}
        bare = [n for n, p in model.named_parameters() if id(p) in parameters and p.grad is None]
        assert not bare, f"no gradient in phase {phase.name!r}: {', '.join(bare[:5])}"
        moved |= parameters.keys()
    idle = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in moved]
    assert not idle, f"in no phase's optimizer: {', '.join(idle[:5])}"


@promise("training leaves finite weights, and the same ones twice")
def training_repeats(case: Case) -> None:
    again = case.train().state_dict()
    for name, tensor in case.trained.state_dict().items():
        assert tensor.isfinite().all(), f"{name} is not finite after {STEPS} steps"
        assert torch.equal(tensor, again[name]), f"{name} differs between two equal trainings"


@promise("training moves every phase's module")
def training_moves(case: Case) -> None:
    before, after = case.build(), case.trained.state_dict()
    for phase in before.phases():
        moved = {id(p) for group in phase.optimizer.param_groups for p in group["params"]}
        names = [n for n, p in before.named_parameters() if id(p) in moved]
        changed = any(not torch.equal(before.get_parameter(n), after[n]) for n in names)
        assert changed, f"phase {phase.name!r} moved nothing in {STEPS} steps"


@promise("samples have the right shape and are finite")
def samples(case: Case) -> None:
    images = case.sample(case.trained)
    wanted = (6, *case.shape)
    assert tuple(images.shape) == wanted, f"sample(6) has shape {tuple(images.shape)}, not {wanted}"
    assert images.is_floating_point(), f"sample(6) is {images.dtype}, not a float"
    assert images.isfinite().all(), "sample(6) is not finite"
    assert images.mean().abs() < 10, "sample(6) is far outside [-1, 1]"
    assert images.shape[0] == 6 and case.trained.nfe >= 1, f"nfe = {case.trained.nfe}"


@promise("samples depend on the seed and on nothing else")
def samples_repeat(case: Case) -> None:
    first, again, other = (case.sample(case.trained, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again), "two calls with one seed differ: a generator of the model's own?"
    assert not torch.equal(first, other), "two seeds give the same samples: the model re-seeds, or ignores the seed"


@promise("no other generator is touched")
def foreign_generators(case: Case) -> None:
    before = foreign_states()
    model = case.build()
    model.prepare(model.phases()[0].name, case.batch)
    model.loss(model.phases()[0].name, case.batch)
    case.sample(case.trained)
    for name, state in foreign_states().items():
        assert state == before[name], f"{name}'s global generator was used: draw from torch"


def foreign_states() -> dict[str, str]:
    """The states of the global generators that are not torch's."""
    numpy: Any = np.random.get_state(legacy=False)
    return {"Python": str(random.getstate()), "NumPy": f"{numpy['state']['key'].tolist()} {numpy['state']['pos']}"}


@promise("state survives saving, loading and copying")
def state(case: Case) -> None:
    stored = case.trained.state_dict()
    odd = [name for name, value in stored.items() if not isinstance(value, Tensor)]
    assert not odd, f"state that is no tensor cannot be stored without pickle: {', '.join(odd)}"
    torch.manual_seed(5)
    other = case.model(case.spec, case.config)
    other.load_state_dict(stored)
    wanted = case.sample(case.trained)
    assert torch.equal(case.sample(other), wanted), "samples differ after state_dict() and load_state_dict()"
    assert torch.equal(case.sample(copy.deepcopy(case.trained)), wanted), "samples differ after copy.deepcopy()"


@promise("labels are used where the job is conditional")
def labels(case: Case) -> None:
    if not case.conditional:
        return
    torch.manual_seed(1)
    with torch.inference_mode():
        other = case.trained.eval().sample(6, torch.full((6,), CLASSES - 1))
    assert not torch.equal(case.sample(case.trained)[0], other[0]), "class 0 and class 2 give the same image"


@promise("a likelihood is finite and of the right shape")
def likelihood(case: Case) -> None:
    if isinstance(case.trained, Likelihood):
        found = case.log_prob(case.trained, case.batch.images, case.labels)
        assert tuple(found.shape) == (6,), f"log_prob of 6 images has shape {tuple(found.shape)}"
        assert found.isfinite().all(), "log_prob is not finite"


@promise("an exact likelihood does not depend on the batch")
def likelihood_alone(case: Case) -> None:
    if isinstance(case.trained, Likelihood) and case.trained.likelihood == "exact":
        together = case.log_prob(case.trained, case.batch.images, case.labels)
        one = None if case.labels is None else case.labels[:1]
        alone = case.log_prob(case.trained, case.batch.images[:1], one)
        assert torch.allclose(alone[0], together[0], rtol=1e-4), f"{alone[0]:.3f} alone, {together[0]:.3f} in a batch"


@promise("the parts of a bound sum to it")
@torch.inference_mode()
def bound_parts(case: Case) -> None:
    if isinstance(case.trained, BoundTerms):
        torch.manual_seed(1)
        parts = case.trained.eval().bound_terms(case.batch.images, case.labels)
        whole = -case.log_prob(case.trained, case.batch.images, case.labels)
        total = torch.stack([part.double() for part in parts.values()]).sum(0)
        assert torch.allclose(total, whole.double(), rtol=1e-4), f"{total[0]:.3f}, but -log_prob is {whole[0]:.3f}"


@promise("a density integrates to one at most")
def gibbs(case: Case) -> None:
    """By Gibbs' inequality no normalised density averages under 8 bits/dim on uniform images."""
    if not isinstance(case.trained, Likelihood):
        return
    generator = torch.Generator().manual_seed(3)
    levels = torch.randint(0, 256, (48, *case.shape), generator=generator, dtype=torch.uint8)
    images = to_float(levels) if case.model.discrete else dequantize(levels, generator)
    classes = torch.arange(48) % CLASSES if case.conditional else None
    bits = bits_per_dim(case.log_prob(case.trained, images, classes), case.spec.dims, case.model.discrete)
    error = float(bits.std()) / len(bits) ** 0.5
    assert bits.mean() > 8 - 3 * error - 1e-3, f"{bits.mean():.3f} bits/dim on uniform images: not a normalised density"


def cases(model: type[Model], preset: str | None = None, **options: Any) -> Iterator[Case]:
    """Gray and colour, and conditional where the model can; by default in the preset `tiny`, if there is one.

    `options` are the model's own, on top of the preset.
    """
    name = preset or ("tiny" if "tiny" in model.presets else None)
    settings = {**(model.presets[name] if name else {}), **options}
    config = model.Config(**settings).model_copy(update={"batch_size": 8})
    for shape in ((1, 8, 8), (3, 16, 16)):
        yield Case(model, config, shape, conditional=False)
    if model.conditional:
        yield Case(model, config, (1, 8, 8), conditional=True)


def check_case(case: Case) -> dict[str, str]:
    """Every promise by name, with what broke it, or an empty text."""
    found = {}
    for text, check in PROMISES.items():
        try:
            check(case)
            found[text] = ""
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            if is_interruption(error):
                raise
            found[text] = describe(error) if not isinstance(error, AssertionError) else str(error)
    return found


def check_model(model: type[Model], preset: str | None = None, **options: Any) -> None:
    """Raise AssertionError naming every promise that the model, with these options of its, breaks."""
    faults = []
    for case in cases(model, preset, **options):
        where = f"{case.shape}{', conditional' if case.conditional else ''}"
        faults += [f"{text} ({where}): {fault}" for text, fault in check_case(case).items() if fault]
    assert not faults, "\n".join(faults)


def check_plugin(plugin: str) -> list[dict[str, Any]]:
    """A row a model and promise, for `genbench check-plugin NAME|FILE`. Raises BadInput for an unknown plugin."""
    file = Path(plugin).suffix == ".py" or Path(plugin).exists()
    plugins = load_plugins([plugin] if file else [])
    names = plugins.infos[-1].models if file else [plugin]
    rows = []
    for name in names:
        model, _ = plugins.model(name)
        for text, faults in _by_promise(model).items():
            rows.append({"model": name, "promise": text, "passed": not faults, "detail": "; ".join(faults)})
    return rows


def _by_promise(model: type[Model]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {text: [] for text in PROMISES}
    for case in cases(model):
        for text, fault in check_case(case).items():
            if fault and fault not in found[text]:
                found[text].append(fault)
    return found
