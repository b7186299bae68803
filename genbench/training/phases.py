"""The phases of training: validating them, grouping them by optimizer, and enabling their gradients."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.optim import Optimizer

from genbench.model import Model, Phase
from genbench.records.point import FIELDS
from genbench.support.errors import BadInput
from genbench.support.parts import PARTS


def checked_phases(model: Model) -> list[Phase]:
    """The model's phases, each with its batch size.

    Raises BadInput if one is invalid, micro-batches do not divide its batch, or two optimizers move the same parameter.
    """
    phases = model.phases()
    names = [phase.name for phase in phases]
    if not phases or len(set(names)) < len(names):
        raise BadInput(f"{model.name}: phases() must return at least one phase, with unique names")
    owner: dict[int, Phase] = {}
    for phase in phases:
        begin, end = phase.span
        counts = phase.repeats - 1, phase.every - 1, phase.batch_size
        if not 0 <= begin < end <= 1 or min(counts) < 0 or "." in phase.name:
            raise BadInput(
                f"{model.name}: phase {phase.name!r} needs a span within [0, 1], repeats and every of at least 1, "
                f"a batch_size that is not negative, and a name without dots"
            )
        phase.batch_size = phase.batch_size or model.config.images_per_update(model.data.shape)
        size, count = model.config.pieces_of(phase.batch_size)
        if size * count != phase.batch_size:
            what = f"micro_batch: {size} does not divide the batch of phase {phase.name!r}, {phase.batch_size}"
            raise BadInput(f"{model.name}: {what}", "set a micro_batch that divides the batch of every phase")
        if phase.part not in PARTS:
            raise BadInput(
                f"{model.name}: phase {phase.name!r} is part of {phase.part!r}", f"parts: {', '.join(PARTS)}"
            )
        for parameter in phase.parameters:
            other = owner.setdefault(id(parameter), phase)
            if other.optimizer is not phase.optimizer:
                raise BadInput(
                    f"{model.name}: the optimizers of phases {other.name!r} and {phase.name!r} move the same parameter",
                    "give both phases the same optimizer object",
                )
    return phases


def first_phases(phases: Iterable[Phase]) -> dict[str, str]:
    """For each phase, by name, the first phase with the same optimizer."""
    first: dict[int, str] = {}
    return {phase.name: first.setdefault(id(phase.optimizer), phase.name) for phase in phases}


def optimizers(phases: Iterable[Phase]) -> dict[str, Optimizer]:
    """Each optimizer once, by the name of its first phase."""
    phases = list(phases)
    first = first_phases(phases)
    return {phase.name: phase.optimizer for phase in phases if first[phase.name] == phase.name}


def give_gradients(model: Model, phase: Phase) -> None:
    """Enable gradients for the phase's parameters and no others."""
    model.requires_grad_(False)
    for parameter in phase.parameters:
        parameter.requires_grad_(True)


def checked_loss(losses: dict[str, Tensor], phase: Phase) -> Tensor:
    """The scalar to minimise. Raises BadInput if it is missing, not a scalar or has no gradient.

    Also if a loss has the name of something else that is written beside it.
    """
    if taken := FIELDS & losses.keys():
        where = f"loss({phase.name!r}): {min(taken)!r} is not a loss in a learning curve"
        raise BadInput(where, "give that entry of the dict another name")
    loss = losses.get("loss")
    if loss is None or loss.dim() != 0 or not loss.is_floating_point() or not loss.requires_grad:
        got = (
            "nothing"
            if loss is None
            else f"{loss.dtype} of shape {tuple(loss.shape)}, requires_grad={loss.requires_grad}"
        )
        raise BadInput(f"loss({phase.name!r}) must return a floating-point scalar with a gradient, got {got}")
    return loss
