"""What a job would cost, counted without running it: one update of every phase, and one block of samples, of shadows.

What is counted is exact where it depends on shapes alone. A loss that needs numbers is computed on two and on four real
images of noise and carried on to the batch, if that takes a moment; what cannot be counted says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from genbench.data.dataset import Dataset
from genbench.devices import autocast, resident_memory
from genbench.extension.registry import Plugins
from genbench.metering.flops import FlopCounter
from genbench.model import Batch, Model, Phase
from genbench.planning.earlier import Earlier, earlier_runs
from genbench.planning.shadow import as_shadow, build_job, remember_calls, shadow_mode, unchecked_distributions
from genbench.planning.spending import Spending, Update, spend
from genbench.records.job import Job
from genbench.records.record import NO_SAMPLES, Record
from genbench.records.samples import BLOCK
from genbench.records.v100 import nominal_days, nominal_words
from genbench.support.errors import GenbenchError, describe
from genbench.support.seeds import derive_seed
from genbench.training.feeder import Feeder
from genbench.training.memory import memories
from genbench.training.phases import checked_loss, checked_phases, first_phases, give_gradients

TRIED_IMAGES = (2, 4)
TRIED_PARAMETERS = 50_000_000
TRIED_FLOPS = 1e11
"""A loss that needs numbers is tried where the model is not larger, and what it counted until then, of one image."""


@dataclass
class PhaseEstimate:
    """One phase of the training: its parameters, and what one update takes; None where `Estimate.reasons` says why.

    Bytes of gradients and of an optimizer are counted in the first phase that has the optimizer.
    """

    parameters: int
    gradient_bytes: int
    batch_size: int
    repeats: int
    span: tuple[float, float]
    every: int
    flops_per_update: int | None = None
    activation_bytes: int | None = None
    optimizer_bytes: int | None = None
    uncounted_ops: list[str] = field(default_factory=list)
    tried: bool = False
    """Whether it was computed on real images, not counted on shapes."""

    @property
    def flops_per_image(self) -> float | None:
        return None if self.flops_per_update is None else self.flops_per_update / self.batch_size


@dataclass
class Estimate:
    """What a job would take; a number that is None has its reason in `reasons`, by its name.

    `peak_parts` are the summands of `estimated_peak_bytes`, `earlier` is what earlier runs of the same settings took.
    """

    parameters: int
    phases: dict[str, PhaseEstimate] = field(default_factory=dict)
    train_steps: int | None = None
    train_images: int | None = None
    train_flops: float | None = None
    estimated_peak_bytes: int | None = None
    peak_parts: dict[str, int] = field(default_factory=dict)
    sample_nfe: int | None = None
    sample_flops_per_image: float | None = None
    sample_flops: float | None = None
    v100_days: float | None = None
    v100_basis: str = ""
    earlier: Earlier | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    trains: bool = True

    def without_training(self) -> Estimate:
        """What is left where the weights are there already, or another row's training gives them.

        The peak memory of the training stays, since sampling needs no more.
        """
        nothing: dict[str, Any] = dict.fromkeys(("train_steps", "train_images", "train_flops", "v100_days"), 0)
        reasons = {key: words for key, words in self.reasons.items() if key not in nothing}
        past = self.earlier.without_training() if self.earlier else None
        return replace(self, **nothing, reasons=reasons, earlier=past, trains=False)


@dataclass
class Count:
    """What one update took: FLOPs, what autograd kept for the backward pass, and operations without a formula."""

    flops: int = 0
    saved_bytes: int = 0
    uncounted: set[str] = field(default_factory=set)


def estimate(job: Job, data: Dataset, plugins: Plugins, records: Iterable[Record], utilisation: float) -> Estimate:
    """The estimate of a job that trains a model; `utilisation` is the share of its nominal rate that a V100 sustains.

    Raises BadInput for a model that cannot be built.
    """
    device = torch.device(job.runtime.device)
    base = process_bytes(device)
    model = build_job(job, plugins, data)
    found = Estimate(sum(p.numel() for p in model.parameters()))
    _, info = plugins.model(job.model)
    own = {verb for verb in ("train", "sample") if plugins.owns(verb, info)}
    with shadow_mode() as mode, unchecked_distributions():
        try:
            as_shadow(model, device)
            if "train" in own:
                found.reasons["train_flops"] = f"plugin {info.name!r} trains by a hook of its own"
            else:
                _count_phases(found, job, model, device)
        except GenbenchError:
            raise
        except Exception as error:
            found.reasons["train_flops"] = f"its phases need more than shapes: {describe(error, 120)}"
    for name, phase in found.phases.items():
        if phase.flops_per_update is None:
            _try_phase(found, name, job, data, plugins)
    if not job.samples:
        found.reasons["sample_flops"] = NO_SAMPLES
    elif "sample" in own:
        found.reasons["sample_flops"] = f"plugin {info.name!r} samples by a hook of its own"
    else:
        with mode, unchecked_distributions():
            _count_sampling(found, job, model, device)
    _add_peak(found, model, base, data, device)
    found.earlier = earlier_runs(job, data, records)
    _add_totals(found, job)
    if found.earlier is not None:
        found.earlier.add_seconds(job, found.train_images)
    _add_v100(found, utilisation)
    return found


@cache
def process_bytes(device: torch.device) -> int:
    """What this process takes before the first estimate, which loads more of torch than a training does."""
    return resident_memory(device)


def _count_phases(found: Estimate, job: Job, model: Model, device: torch.device) -> None:
    """One update of every phase, by one of its micro-batches, of shadows."""
    model.train()
    phases = checked_phases(model)
    first = first_phases(phases)
    for phase in phases:
        size, pieces = model.config.pieces
        count, own = sum(p.numel() for p in phase.parameters), first[phase.name] == phase.name
        grads = sum(p.numel() * p.element_size() for p in phase.parameters) if own else 0
        about = PhaseEstimate(count, grads, model.config.batch_size, phase.repeats, phase.span, phase.every)
        found.phases[phase.name] = about
        about.optimizer_bytes = _optimizer_bytes(phase) if own else 0
        update = Count()
        try:
            _update(model, phase, _shadow_batch(model, size, device), job.precision, device, update)
        except Exception as error:
            found.reasons[f"phases.{phase.name}"] = (
                f"loss({phase.name!r}) needs more than shapes: {describe(error, 120)}"
            )
            if update.flops / size > TRIED_FLOPS or found.parameters > TRIED_PARAMETERS:
                found.reasons[f"phases.{phase.name}"] += "; the model is too large to be tried on a few images"
                about.tried = True
        else:
            about.flops_per_update = update.flops * pieces + _step_flops(phase)
            about.activation_bytes = update.saved_bytes
            about.uncounted_ops = sorted(update.uncounted)


def _update(model: Model, phase: Phase, batch: Batch, precision: str, device: torch.device, count: Count) -> None:
    """Loss and gradients of one batch, as the training computes them; adds up in `count`, also where it raises."""
    own = {tensor.untyped_storage()._cdata for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    keep(batch.images)
    give_gradients(model, phase)
    counter = FlopCounter()
    try:
        with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            with autocast(device, precision):
                outcome = model.loss(phase.name, batch)
            loss = checked_loss(outcome if isinstance(outcome, dict) else {"loss": outcome}, phase)
            phase.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
    finally:
        count.flops, count.uncounted = counter.flops, counter.uncounted
        count.saved_bytes = sum(storage.nbytes() for storage in kept.values())


def _optimizer_bytes(phase: Phase) -> int | None:
    """Bytes of the optimizer's state after a step of all it moves, None where a step needs more than gradients."""
    for parameter in phase.parameters:
        parameter.grad = torch.empty_like(parameter)
    whole = False
    with suppress(Exception):  # a step that needs a number has made its state by then
        phase.optimizer.step()
        whole = True
    tensors = [x for state in phase.optimizer.state.values() for x in state.values() if isinstance(x, Tensor)]
    size = sum(tensor.untyped_storage().nbytes() for tensor in tensors)
    return size if whole or size else None


def _step_flops(phase: Phase) -> int:
    """FLOPs of the optimizer's step by the gradients that are there."""
    counter = FlopCounter()
    with suppress(Exception), counter:
        phase.optimizer.step()
    return counter.flops


def _shadow_batch(model: Model, size: int, device: torch.device) -> Batch:
    labels = torch.zeros(size, dtype=torch.int64, device=device) if model.data.num_classes else None
    return Batch(torch.zeros(size, *model.data.shape, device=device), labels)


def _try_phase(found: Estimate, name: str, job: Job, data: Dataset, plugins: Plugins) -> None:
    """The phase on a few images of noise, on the CPU, carried on in proportion to a whole micro-batch."""
    about = found.phases[name]
    if about.tried:
        return
    about.tried = True
    device, counts = torch.device("cpu"), []
    kind, _ = plugins.model(job.model)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(job.seed, "init"))
            spec = data.spec(job.conditional)
            model = kind(spec, kind.Config(**job.config)).train()
            phase = next(phase for phase in checked_phases(model) if phase.name == name)
            for size in TRIED_IMAGES:
                labels = torch.arange(size) % spec.num_classes if spec.num_classes else None
                batch = Batch(torch.rand(size, *spec.shape) * 2 - 1, labels)
                with torch.no_grad():
                    model.prepare(name, batch)
                counts.append(Count())
                _update(model, phase, batch, job.precision, device, counts[-1])
    except Exception as error:
        found.reasons[f"phases.{name}"] = f"loss({name!r}) fails on a few images of noise: {describe(error, 120)}"
        return
    (low, high), (first, second) = TRIED_IMAGES, counts
    size, pieces = model.config.pieces
    more = (size - low) / (high - low)
    about.flops_per_update = round(first.flops + more * (second.flops - first.flops)) * pieces + _step_flops(phase)
    about.activation_bytes = round(first.saved_bytes + more * (second.saved_bytes - first.saved_bytes))
    about.uncounted_ops = sorted(first.uncounted)
    del found.reasons[f"phases.{name}"]


def _count_sampling(found: Estimate, job: Job, model: Model, device: torch.device) -> None:
    """FLOPs of a block of samples, by one call of each network: further calls of the same shapes take the same."""
    size = min(BLOCK, job.samples)
    counter = FlopCounter()

    def add(flops: int) -> None:
        counter.flops += flops

    try:
        found.sample_nfe = model.nfe
        remember_calls(model.eval(), lambda: counter.flops, add)
        labels = torch.zeros(size, dtype=torch.int64, device=device) if model.data.num_classes else None
        with torch.no_grad(), counter, autocast(device, job.precision):
            model.sample(size, labels)
    except Exception as error:
        found.reasons["sample_flops"] = f"sample() needs more than shapes: {describe(error, 120)}"
        return
    found.sample_flops_per_image = counter.flops / size
    found.sample_flops = found.sample_flops_per_image * job.samples


def _add_peak(found: Estimate, model: Model, base: int, data: Dataset, device: torch.device) -> None:
    """Weights, averaged weights, and what training keeps beside them."""
    phases = found.phases.values()
    if not phases or any(phase.activation_bytes is None or phase.optimizer_bytes is None for phase in phases):
        reasons = [words for key, words in found.reasons.items() if key != "sample_flops"]
        found.reasons["estimated_peak_bytes"] = reasons[0] if reasons else "the optimizer's step needs a closure"
        return
    memory = sum(tensor.untyped_storage().nbytes() for tensor in memories(model).values())
    weights = sum(tensor.untyped_storage().nbytes() for tensor in [*model.parameters(), *model.buffers()]) - memory
    images = data.train.images.nbytes if data.digest and device.type == "cuda" else 0
    found.peak_parts = {
        "weights": weights, "averaged_weights": weights, "memory": memory,
        "gradients": sum(phase.gradient_bytes for phase in phases),
        "optimizer": sum(phase.optimizer_bytes or 0 for phase in phases),
        "activations": max(phase.activation_bytes or 0 for phase in phases),
        "images": images if images <= Feeder.RESIDENT_BYTES else 0, "process": base,
    }  # fmt: skip
    found.estimated_peak_bytes = sum(found.peak_parts.values())


def _add_totals(found: Estimate, job: Job) -> None:
    """Steps, images and FLOPs of the whole training; of a budget in seconds only by what earlier runs took a second."""
    missing = next((words for key, words in found.reasons.items() if key.startswith("phases.")), None)
    if "train_flops" in found.reasons:
        return
    planned = _planned(found, job)
    if job.budget.is_timed:
        rates = found.earlier
        if rates is None or rates.images_per_second is None:
            found.reasons["train_flops"] = "a budget in seconds, and no earlier run tells images per second"
            return
        found.train_images = round(job.budget.amount * rates.images_per_second)
        found.train_steps = round(job.budget.amount * (rates.steps_per_second or 0)) or None
        found.train_flops = job.budget.amount * (rates.flops_per_second or 0) or None
    elif planned is not None:
        found.train_steps, found.train_images = planned.steps, planned.images
        found.train_flops = None if missing else planned.flops
    elif not missing:
        missing = f"a step takes no {job.budget.unit} that are counted, so that the budget would never be spent"
    if found.train_flops is None:
        found.reasons["train_flops"] = missing or "earlier runs counted none"


def _planned(found: Estimate, job: Job) -> Spending | None:
    if job.budget.is_timed:
        return None
    if job.budget.unit == "flops" and any(phase.flops_per_update is None for phase in found.phases.values()):
        return None
    updates = [
        Update(name, phase.batch_size, phase.flops_per_update or 0, phase.repeats, phase.span, phase.every)
        for name, phase in found.phases.items()
    ]
    return spend(job.budget, updates)


def _add_v100(found: Estimate, utilisation: float) -> None:
    if found.train_flops is None:
        found.reasons["v100_days"] = found.reasons["train_flops"]
    else:
        found.v100_days, found.v100_basis = nominal_days(found.train_flops, utilisation), nominal_words(utilisation)
