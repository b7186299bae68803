"""What a job would cost, counted without running it: one update per phase and one block of samples, on shadow tensors.

Counts are exact if they depend on shapes alone. A loss that needs values is computed on two and four noise images and
extrapolated to the batch, if that is quick. If not, but it only asks whether some of them are true, it is counted as if
none were. What cannot be counted has its reason recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch

from genbench.capabilities import EvidenceBound, Likelihood
from genbench.data.condition_plan import conditions_of
from genbench.data.dataset import Dataset
from genbench.devices import autocast, resident_memory
from genbench.extension.registry import Plugins
from genbench.model import Batch, Model
from genbench.planning.earlier import Earlier, earlier_runs
from genbench.planning.shadow import (
    TOO_MANY,
    Limited,
    Stopping,
    as_shadow,
    build_job,
    remember_calls,
    shadow_mode,
    unchecked_distributions,
)
from genbench.planning.spending import Spending, Update, spend
from genbench.planning.updates import Count, count_saying_no, count_update, optimizer_bytes, shadow_batch, step_flops
from genbench.records.job import Job
from genbench.records.record import NO_SAMPLES, Record
from genbench.records.samples import BLOCK
from genbench.records.v100 import nominal_days, nominal_words
from genbench.support.errors import GenbenchError, describe
from genbench.support.seeds import derive_seed
from genbench.training.feeder import Feeder
from genbench.training.memory import memories
from genbench.training.phases import checked_phases, first_phases

TRIED_IMAGES = (2, 4)
TRIED_PARAMETERS = 50_000_000
TRIED_FLOPS = 1e11
"""A loss that needs values is tried only below these: parameters, and FLOPs per image counted until it failed."""


@dataclass
class PhaseEstimate:
    """One phase of the training: its parameters, the cost of an update and of all; if None, see `Estimate.reasons`.

    Phases that share an optimizer: its parameters, its bytes and those of gradients are counted in the first.
    """

    parameters: int
    gradient_bytes: int
    batch_size: int
    repeats: int
    span: tuple[float, float]
    every: int
    part: str
    flops_per_update: int | None = None
    activation_bytes: int | None = None
    optimizer_bytes: int | None = None
    uncounted_ops: list[str] = field(default_factory=list)
    tried: bool = False
    """Whether it was computed on noise images instead of counted from shapes."""
    supposed: bool = False
    """Whether it was counted as if nothing were true that its loss asks about values."""
    train_flops: float | None = None
    v100_days: float | None = None

    @property
    def flops_per_image(self) -> float | None:
        return None if self.flops_per_update is None else self.flops_per_update / self.batch_size


@dataclass
class Estimate:
    """What a job would cost; `reasons` says, by field name, why a number is None.

    `peak_parts` sum to `estimated_peak_bytes`; `earlier` is what earlier runs with the same settings took.
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
    likelihood_images: int = 0
    """Images that bits/dim is measured on; 0 without a likelihood."""
    likelihood_flops_per_image: float | None = None
    v100_days: float | None = None
    v100_basis: str = ""
    earlier: Earlier | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    trains: bool = True

    def without_training(self) -> Estimate:
        """The remaining cost if the weights already exist or come from another row's training.

        The peak memory of the training stays, since sampling needs no more.
        """
        nothing: dict[str, Any] = dict.fromkeys(("train_steps", "train_images", "train_flops", "v100_days"), 0)
        reasons = {key: words for key, words in self.reasons.items() if key not in nothing}
        phases = {name: replace(phase, train_flops=0, v100_days=0) for name, phase in self.phases.items()}
        past = self.earlier.without_training() if self.earlier else None
        return replace(self, **nothing, phases=phases, reasons=reasons, earlier=past, trains=False)


def estimate(job: Job, data: Dataset, plugins: Plugins, records: Iterable[Record], utilisation: float) -> Estimate:
    """The estimate of a job that trains a model; `utilisation` is the share of its nominal rate that a V100 sustains.

    Raises BadInput for a model that cannot be built.
    """
    device = torch.device(job.runtime.device)
    base = process_bytes(device)
    model, scored = build_job(job, plugins, data), build_job(job, plugins, data)
    found = Estimate(sum(p.numel() for p in model.parameters()))
    _, info = plugins.model(job.model)
    own = {verb for verb in ("train", "sample") if plugins.owns(verb, info)}
    with shadow_mode() as mode, unchecked_distributions():
        try:
            as_shadow(model, device)
            if "train" in own:
                found.reasons["train_flops"] = f"plugin {info.name!r} implements the train hook itself"
            else:
                _count_phases(found, job, model, device)
        except GenbenchError:
            raise
        except Exception as error:
            found.reasons["train_flops"] = f"its phases need values, not only shapes: {describe(error, 120)}"
    for name, phase in found.phases.items():
        if phase.flops_per_update is None:
            _try_phase(found, name, job, data, plugins)
    if not job.samples:
        found.reasons["sample_flops"] = NO_SAMPLES
    elif "sample" in own:
        found.reasons["sample_flops"] = f"plugin {info.name!r} implements the sample hook itself"
    else:
        with mode, unchecked_distributions():
            _count_sampling(found, job, model, device)
    if isinstance(model, Likelihood):
        found.likelihood_images = sum(min(job.evaluation.likelihood_images, len(p)) for p in (data.test, data.train))
        with mode, unchecked_distributions():
            _count_likelihood(found, as_shadow(scored, device), device)
    _add_peak(found, model, base, data, device)
    found.earlier = earlier_runs(job, data, records)
    _add_totals(found, job)
    if found.earlier is not None:
        found.earlier.add_seconds(job, found.train_images)
    _add_v100(found, job, utilisation)
    return found


@cache
def process_bytes(device: torch.device) -> int:
    """Resident bytes before the first estimate, which loads more of torch than training does."""
    return resident_memory(device)


def _count_phases(found: Estimate, job: Job, model: Model, device: torch.device) -> None:
    """Count one update of each phase from one micro-batch of shadow tensors."""
    model.train()
    phases = checked_phases(model)
    first = first_phases(phases)
    for phase in phases:
        size, pieces = model.config.pieces_of(phase.batch_size)
        own = phase.parameters if first[phase.name] == phase.name else []
        count, grads = sum(p.numel() for p in own), sum(p.numel() * p.element_size() for p in own)
        about = PhaseEstimate(count, grads, phase.batch_size, phase.repeats, phase.span, phase.every, phase.part)
        found.phases[phase.name] = about
        about.optimizer_bytes = optimizer_bytes(phase) if own else 0
        update, batch = Count(), shadow_batch(model, size, device)
        try:
            count_update(model, phase, batch, job.precision, device, update)
        except Exception as error:
            found.reasons[f"phases.{phase.name}"] = (
                f"loss({phase.name!r}) needs values, not only shapes: {describe(error, 120)}"
            )
            if update.flops / size <= TRIED_FLOPS and found.parameters <= TRIED_PARAMETERS:
                continue
            supposed = count_saying_no(model, phase, batch, job.precision, device)
            if supposed is None:
                found.reasons[f"phases.{phase.name}"] += "; the model is too large to try on a few images"
                about.tried = True
                continue
            update, about.supposed = supposed, True
            del found.reasons[f"phases.{phase.name}"]
        about.flops_per_update = update.flops * pieces + step_flops(phase)
        about.activation_bytes = update.saved_bytes
        about.uncounted_ops = sorted(update.uncounted)


def _try_phase(found: Estimate, name: str, job: Job, data: Dataset, plugins: Plugins) -> None:
    """Compute the phase on a few noise images on the CPU, and extrapolate linearly to a micro-batch."""
    about = found.phases[name]
    if about.tried:
        return
    about.tried = True
    device, counts = torch.device("cpu"), []
    kind, _ = plugins.model(job.model)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(job.seed, "init"))
            spec = data.spec(job.kind)
            model = kind(spec, kind.Config(**job.config)).train()
            phase = next(phase for phase in checked_phases(model) if phase.name == name)
            for size in TRIED_IMAGES:
                given = conditions_of(spec.kind).example(spec, size, device)
                batch = Batch.of(torch.rand(size, *spec.shape) * 2 - 1, given)
                with torch.no_grad():
                    model.prepare(name, batch)
                counts.append(Count())
                count_update(model, phase, batch, job.precision, device, counts[-1])
    except Exception as error:
        found.reasons[f"phases.{name}"] = f"loss({name!r}) fails on a few noise images: {describe(error, 120)}"
        return
    (low, high), (first, second) = TRIED_IMAGES, counts
    size, pieces = model.config.pieces_of(about.batch_size)
    more = (size - low) / (high - low)
    about.flops_per_update = round(first.flops + more * (second.flops - first.flops)) * pieces + step_flops(phase)
    about.activation_bytes = round(first.saved_bytes + more * (second.saved_bytes - first.saved_bytes))
    about.uncounted_ops = sorted(first.uncounted)
    del found.reasons[f"phases.{name}"]


def _count_sampling(found: Estimate, job: Job, model: Model, device: torch.device) -> None:
    """FLOPs of a block of samples from one call per network: further calls with the same shapes cost the same."""
    size = min(BLOCK, job.samples)
    counter = Limited()

    def add(flops: int) -> None:
        counter.flops += flops

    try:
        found.sample_nfe = model.nfe
        remember_calls(model.eval(), lambda: counter.flops, add)
        model.report = counter.expect  # type: ignore[method-assign]
        given = conditions_of(model.data.kind).example(model.data, size, device)
        with torch.no_grad(), counter, Stopping(counter), autocast(device, job.precision):
            model.sample(size, given)
    except OverflowError:
        found.reasons["sample_flops"] = TOO_MANY
        return
    except Exception as error:
        found.reasons["sample_flops"] = f"sample() needs values, not only shapes: {describe(error, 120)}"
        return
    found.sample_flops_per_image = counter.flops / size
    found.sample_flops = found.sample_flops_per_image * job.samples


def _count_likelihood(found: Estimate, model: Model, device: torch.device) -> None:
    """FLOPs of log_prob, and of a looser bound, of one image, counted on a block."""
    assert isinstance(model, Likelihood)
    counter = Limited()

    def add(flops: int) -> None:
        counter.flops += flops

    try:
        remember_calls(model.eval(), lambda: counter.flops, add)
        batch = shadow_batch(model, BLOCK, device)
        with torch.no_grad(), counter, Stopping(counter):
            model.log_prob(batch.images, batch.given)
            if isinstance(model, EvidenceBound):
                model.elbo_terms(batch.images, batch.given)
    except OverflowError:
        found.reasons["likelihood_flops"] = TOO_MANY
        return
    except Exception as error:
        found.reasons["likelihood_flops"] = f"log_prob() needs values, not only shapes: {describe(error, 120)}"
        return
    found.likelihood_flops_per_image = counter.flops / BLOCK


def _add_peak(found: Estimate, model: Model, base: int, data: Dataset, device: torch.device) -> None:
    """Peak memory: weights, averaged weights, and everything else that training keeps."""
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
    """Steps, images and FLOPs of the whole training; for a budget in seconds only from the rates of earlier runs."""
    missing = next((words for key, words in found.reasons.items() if key.startswith("phases.")), None)
    if "train_flops" in found.reasons:
        return
    planned = _planned(found, job)
    if job.budget.is_timed:
        rates = found.earlier
        if rates is None or rates.images_per_second is None:
            found.reasons["train_flops"] = "a budget in seconds, and no earlier run has a rate in images per second"
            return
        found.train_images = round(job.budget.amount * rates.images_per_second)
        found.train_steps = round(job.budget.amount * (rates.steps_per_second or 0)) or None
        found.train_flops = job.budget.amount * (rates.flops_per_second or 0) or None
    elif planned is not None:
        found.train_steps, found.train_images = planned.steps, planned.images
        found.train_flops = None if missing else planned.flops
        for name, phase in found.phases.items():
            each = phase.flops_per_update
            phase.train_flops = None if each is None else planned.updates[name] * each
    elif not missing:
        unit = job.budget.unit
        missing = f"no {unit} were counted in a step, so a budget in {unit} would never be reached"
    if found.train_flops is None:
        found.reasons["train_flops"] = missing or "earlier runs have no FLOP counts"


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


def _add_v100(found: Estimate, job: Job, utilisation: float) -> None:
    rate = utilisation, job.precision
    for phase in found.phases.values():
        phase.v100_days = None if phase.train_flops is None else nominal_days(phase.train_flops, *rate)
    if found.train_flops is None:
        found.reasons["v100_days"] = found.reasons["train_flops"]
    else:
        found.v100_days, found.v100_basis = nominal_days(found.train_flops, *rate), nominal_words(*rate)
