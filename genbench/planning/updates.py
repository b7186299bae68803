"""One update of a phase, on tensors without values or on a few images: its FLOPs, and the bytes that it keeps."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from genbench.data.condition_plan import conditions_of
from genbench.devices import autocast
from genbench.metering.flops import FlopCounter
from genbench.model import Batch, Model, Phase
from genbench.planning.saved import Held, Saved
from genbench.planning.shadow import SayingNo
from genbench.training.phases import checked_loss, give_gradients


@dataclass
class Count:
    """One update: FLOPs, the most bytes that autograd had saved at once, and operations without a formula."""

    flops: int = 0
    saved_bytes: int = 0
    uncounted: set[str] = field(default_factory=set)


def count_update(model: Model, phase: Phase, batch: Batch, precision: str, device: torch.device, count: Count) -> None:
    """Loss and gradients of one batch, as training computes them; fills in `count` even if it raises."""
    saved = Saved([*model.parameters(), *model.buffers()])
    images = Held(batch.images, saved)
    give_gradients(model, phase)
    counter = FlopCounter()
    try:
        with counter, saved.counting():
            with autocast(device, precision):
                outcome = model.loss(phase.name, batch)
            loss = checked_loss(outcome if isinstance(outcome, dict) else {"loss": outcome}, phase)
            phase.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
    finally:
        count.flops, count.uncounted = counter.flops, counter.uncounted
        count.saved_bytes = saved.most
        del images


def count_saying_no(model: Model, phase: Phase, batch: Batch, precision: str, device: torch.device) -> Count | None:
    """One update of shadows that say no whenever the loss asks if anything is true; None if it needs other values."""
    count = Count()
    with suppress(Exception), SayingNo():
        count_update(model, phase, batch, precision, device, count)
        return count
    return None


def optimizer_bytes(phase: Phase) -> int | None:
    """Bytes of the optimizer's state after a step on all its parameters; None if a step needs more than gradients."""
    for parameter in phase.parameters:
        parameter.grad = torch.empty_like(parameter)
    whole = False
    with suppress(Exception):  # a step that needs values has created its state by then
        phase.optimizer.step()
        whole = True
    tensors = [x for state in phase.optimizer.state.values() for x in state.values() if isinstance(x, Tensor)]
    size = sum(tensor.untyped_storage().nbytes() for tensor in tensors)
    return size if whole or size else None


def step_flops(phase: Phase) -> int:
    """FLOPs of an optimizer step with the present gradients."""
    counter = FlopCounter()
    with suppress(Exception), counter:
        phase.optimizer.step()
    return counter.flops


def shadow_batch(model: Model, size: int, device: torch.device) -> Batch:
    """A batch of `size` images without values; call it within `shadow_mode`."""
    given = conditions_of(model.data.kind).example(model.data, size, device)
    return Batch.of(torch.zeros(size, *model.data.shape, device=device), given)
