"""Promises about a model's class, its phases and its weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from genbench.conformance.case import PROGRESSES, STEPS, Case
from genbench.conformance.places import own_sources, place_of
from genbench.conformance.promise import Broken, listed, promise, require
from genbench.model import Model, Phase
from genbench.records.record import REFERENCES
from genbench.support import store
from genbench.support.errors import BadInput, describe
from genbench.support.names import check_name
from genbench.support.text import summary
from genbench.support.validation import checked
from genbench.training.memory import memories
from genbench.training.phases import checked_loss, checked_phases, first_phases, give_gradients


@promise("it has a name of its own", "name")
def named(case: Case) -> str:
    name = check_name(getattr(case.model, "name", None), "the name")
    require(name.lower() not in REFERENCES, f"{name!r} is the name of a reference row")
    return summary(case.model.__doc__)


@promise("every option says what changing it asks for; presets are valid", "Config")
def options(case: Case) -> str:
    kind = case.model.Config
    for name in kind.model_fields:
        kind.role(name)
    for name, preset in case.model.presets.items():
        try:
            checked(kind, dict(preset), lambda keys: "", "a preset sets options of Config")
        except BadInput as fault:
            raise Broken(f"preset {name!r}{describe(fault)}", "presets") from None
    return f"{len(kind.model_fields)} options, presets: {', '.join(case.model.presets) or 'none'}"


@promise("it can be built", "__init__", options)
def built(case: Case) -> str:
    parameters = sum(parameter.numel() for parameter in case.build().parameters())
    require(parameters > 0, "it has no parameters: weights must be torch.nn.Parameters")
    return f"{parameters:,} parameters"


@promise("every optimizer has parameters of its own, in its phase's module", "phases", built)
def phases(case: Case) -> str:
    model = case.build()
    found = checked_phases(model)
    for phase in found:
        held = {id(parameter) for parameter in phase.module.parameters()}
        names = _names(model, moved(phase) - held)
        told = f"the optimizer of phase {phase.name!r} moves parameters that its module does not hold: {names}"
        require(not names, f"{told}; these are not averaged, but samples are drawn from averaged weights")
    return ", ".join(phase.name for phase in found)


@promise("every phase gives a finite scalar loss", "loss", phases)
def losses(case: Case) -> str:
    found = []
    for phase in case.build().phases():
        for progress in PROGRESSES:
            loss = checked_loss(case.loss(case.prepared(phase.name), phase.name, progress), phase)
            when = f" at batch.progress = {progress}" if progress else ""
            require(loss.isfinite(), f"loss({phase.name!r}, ...) is {loss.item()}{when}")
            if not progress:
                found.append(f"{phase.name} {loss.item():.4g}")
    return ", ".join(found)


@promise("every parameter belongs to a phase and gets a gradient", "loss", losses)
def gradients(case: Case) -> None:
    """A gradient from one of the phases that share an optimizer is enough."""
    with case.births() as born:
        model = case.build().train()
    held: set[int] = set()
    found = model.phases()
    first = first_phases(found)
    bare = {phase.name: moved(phase) for phase in found if first[phase.name] == phase.name}
    for phase in found:
        with torch.no_grad():
            model.prepare(phase.name, case.batch)
        for progress in PROGRESSES:
            model.zero_grad()
            case.loss(model, phase.name, progress)["loss"].backward()  # type: ignore[no-untyped-call]
            bare[first[phase.name]] -= {id(p) for p in model.parameters() if p.grad is not None}
        held |= moved(phase)
    for name, ids in bare.items():
        told = f"loss({name!r}, ...) does not depend on {_names(model, ids)}"
        require(not ids, told, next((born[key] for key in ids if key in born), None))
    idle = {id(p): n for n, p in model.named_parameters() if p.requires_grad and id(p) not in held}
    told = f"parameters in no phase's optimizer: {listed(idle.values())}"
    require(not idle, told, next((born[key] for key in idle if key in born), "phases"))


@promise("an update moves the parameters of its phase alone", "loss", losses)
def updates(case: Case) -> None:
    for name in [phase.name for phase in case.build().phases()]:
        model = case.prepared(name)
        (phase,) = (phase for phase in model.phases() if phase.name == name)
        before = {n: p.detach().clone() for n, p in model.named_parameters() if id(p) not in moved(phase)}
        give_gradients(model, phase)
        case.loss(model, name)["loss"].backward()  # type: ignore[no-untyped-call]
        phase.optimizer.step()
        other = [n for n, old in before.items() if not torch.equal(model.get_parameter(n), old)]
        require(not other, f"a step of phase {name!r} also changes {listed(other)}")


@promise("tensors it keeps are parameters or buffers", "__init__", built)
def held(case: Case) -> None:
    """Other tensors are not moved to a GPU with the model, nor saved in a checkpoint."""
    model, sources = case.build(), own_sources(case.model)
    loose = {
        f"{name}.{key}".removeprefix("."): place_of(type(module), "__init__")
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, Tensor)
    }
    own = next((place for place in loose.values() if place is not None and place.file in sources), None)
    require(not loose, f"{listed(loose)}: use register_buffer, or torch.nn.Parameter if it is learned", own)


@promise("state is tensors, stored without pickle", "__init__", built)
def stored_as_tensors(case: Case) -> str:
    model = case.build()
    state = model.state_dict() | memories(model)
    odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
    where = "get_extra_state" if any(name.endswith("_extra_state") for name in odd) else None
    require(not odd, f"state that is not a tensor cannot be stored without pickle: {listed(odd)}", where)
    again = stored(state)
    lost = [name for name, value in state.items() if not torch.equal(again[name], value.cpu())]
    require(not lost, f"state that changes when stored as safetensors and read again: {listed(lost)}")
    return f"{sum(value.numel() for value in state.values()):,} numbers"


@promise("settling leaves finite weights", "settle", losses, stored_as_tensors)
def settles(case: Case) -> None:
    """It is called without gradients on averaged weights, once."""
    model = case.prepared(case.build().phases()[-1].name).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        model.settle(case.batch)
    odd = [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    require(not odd, f"settle leaves values that are not finite in {listed(odd)}")


@promise("training leaves finite weights", "loss", settles)
def trains(case: Case) -> str:
    for name, tensor in case.trained.state_dict().items():
        require(tensor.isfinite().all(), f"{name} is not finite after {STEPS} steps")
    return f"{STEPS} steps"


@promise("training moves every phase's parameters", "phases", trains)
def training_moves(case: Case) -> None:
    before, after = case.build(), case.trained.state_dict()
    for phase in before.phases():
        names = [n for n, p in before.named_parameters() if id(p) in moved(phase)]
        changed = any(not torch.equal(before.get_parameter(n), after[n]) for n in names)
        require(changed, f"phase {phase.name!r} moved no parameter in {STEPS} steps")


def moved(phase: Phase) -> set[int]:
    """The ids of the parameters that a phase's optimizer moves."""
    return {id(parameter) for parameter in phase.parameters}


def stored(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state, written to disk and read again like a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        store.write_tensors(file, state)
        return store.read_tensors(file)


def _names(model: Model, ids: set[int]) -> str:
    return listed(name for name, parameter in model.named_parameters() if id(parameter) in ids)
