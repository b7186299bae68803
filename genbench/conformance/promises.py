"""What every model promises, each as a check on one case, with the method that keeps or breaks it."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genbench import store
from genbench.capabilities import BoundTerms, Chains, Interpolation, Likelihood
from genbench.conformance.case import CLASSES, COUNT, MORE, STEPS, Case, entropy
from genbench.conformance.process_state import GENERATORS
from genbench.errors import BadInput, describe
from genbench.images import bits_per_dim
from genbench.model import Batch, Model
from genbench.names import check_name
from genbench.places import Place
from genbench.records import REFERENCES
from genbench.train import checked_loss, checked_phases, give_gradients
from genbench.values import checked


class Broken(Exception):
    """A promise that is not kept: what was found, and the method or the line to look at."""

    def __init__(self, found: str, look: str | Place | None = None) -> None:
        super().__init__(found)
        self.look = look


class NotApplicable(Exception):
    """A promise that this model does not make, and why."""


Check = Callable[[Case], str | None]
"""Raises Broken, NotApplicable or whatever the model raises; may return in a few words what was found."""


@dataclass(frozen=True)
class Promise:
    """`about` is the method that it is about; what needs other promises is not checked where one of them is broken."""

    text: str
    check: Check
    about: str
    needs: tuple[Promise, ...]


PROMISES: list[Promise] = []


def promise(text: str, about: str, *needs: Promise) -> Callable[[Check], Promise]:
    def keep(check: Check) -> Promise:
        PROMISES.append(Promise(text, check, about, needs))
        return PROMISES[-1]

    return keep


def require(kept: bool | Tensor, found: str, look: str | Place | None = None) -> None:
    """Raise Broken unless `kept`."""
    if not kept:
        raise Broken(found, look)


# The class


@promise("it has a name of its own", "name")
def named(case: Case) -> str:
    name = check_name(getattr(case.model, "name", None), "the name")
    require(name.lower() not in REFERENCES, f"{name!r} is the name of a reference row")
    return (case.model.__doc__ or "").strip().split("\n")[0]


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
    require(parameters > 0, "it has no parameters: make them torch.nn.Parameters")
    return f"{parameters:,} parameters"


# Training


@promise("every phase has parameters of its own, which its module holds", "phases", built)
def phases(case: Case) -> str:
    model = case.build()
    found = checked_phases(model)
    for phase in found:
        held = {id(parameter) for parameter in phase.module.parameters()}
        names = _names(model, moved(phase.optimizer) - held)
        told = f"the optimizer of phase {phase.name!r} moves what its module does not hold: {names}"
        require(not names, f"{told}; no average of these is kept, and samples are drawn from averages")
    return ", ".join(phase.name for phase in found)


@promise("every phase gives a finite scalar loss", "loss", phases)
def losses(case: Case) -> str:
    found = []
    for phase in case.build().phases():
        loss = checked_loss(case.loss(case.prepared(phase.name), phase.name), phase)
        require(loss.isfinite(), f"loss({phase.name!r}, ...) is {loss.item()}")
        found.append(f"{phase.name} {loss.item():.4g}")
    return ", ".join(found)


@promise("every parameter belongs to a phase and gets a gradient", "loss", losses)
def gradients(case: Case) -> None:
    with case.births() as born:
        model = case.build().train()
    held: set[int] = set()
    for phase in model.phases():
        with torch.no_grad():
            model.prepare(phase.name, case.batch)
        model.zero_grad()
        case.loss(model, phase.name)["loss"].backward()  # type: ignore[no-untyped-call]
        bare = {id(p): n for n, p in model.named_parameters() if id(p) in moved(phase.optimizer) and p.grad is None}
        told = f"loss({phase.name!r}, ...) does not depend on {_listed(bare.values())}"
        require(not bare, told, next((born[key] for key in bare if key in born), None))
        held |= moved(phase.optimizer)
    idle = {id(p): n for n, p in model.named_parameters() if p.requires_grad and id(p) not in held}
    told = f"in no phase's optimizer: {_listed(idle.values())}"
    require(not idle, told, next((born[key] for key in idle if key in born), "phases"))


@promise("an update moves the parameters of its phase alone", "loss", losses)
def updates(case: Case) -> None:
    for name in [phase.name for phase in case.build().phases()]:
        model = case.prepared(name)
        (phase,) = (phase for phase in model.phases() if phase.name == name)
        before = {n: p.detach().clone() for n, p in model.named_parameters() if id(p) not in moved(phase.optimizer)}
        give_gradients(model, phase)
        case.loss(model, name)["loss"].backward()  # type: ignore[no-untyped-call]
        phase.optimizer.step()
        other = [n for n, old in before.items() if not torch.equal(model.get_parameter(n), old)]
        require(not other, f"a step of phase {name!r} also changes {_listed(other)}")


@promise("tensors it keeps are parameters or buffers", "__init__", built)
def held(case: Case) -> None:
    """What is neither does not follow the model to a GPU, nor into a checkpoint."""
    model = case.build()
    loose = [
        f"{name}.{key}".removeprefix(".")
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, Tensor)
    ]
    require(not loose, f"{_listed(loose)}: use register_buffer, or torch.nn.Parameter where it is learned")


@promise("state is tensors, stored without pickle", "__init__", built)
def stored_as_tensors(case: Case) -> str:
    state = case.build().state_dict()
    odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
    where = "get_extra_state" if any(name.endswith("_extra_state") for name in odd) else None
    require(not odd, f"state that is no tensor cannot be stored without pickle: {_listed(odd)}", where)
    again = stored(case.build())
    lost = [name for name, value in state.items() if not torch.equal(again[name], value)]
    require(not lost, f"stored as safetensors and read again it is another: {_listed(lost)}")
    return f"{sum(value.numel() for value in state.values()):,} numbers"


@promise("training leaves finite weights", "loss", losses, stored_as_tensors)
def trains(case: Case) -> str:
    for name, tensor in case.trained.state_dict().items():
        require(tensor.isfinite().all(), f"{name} is not finite after {STEPS} steps")
    return f"{STEPS} steps"


@promise("training moves every phase's parameters", "phases", trains)
def training_moves(case: Case) -> None:
    before, after = case.build(), case.trained.state_dict()
    for phase in before.phases():
        names = [n for n, p in before.named_parameters() if id(p) in moved(phase.optimizer)]
        changed = any(not torch.equal(before.get_parameter(n), after[n]) for n in names)
        require(changed, f"phase {phase.name!r} moved nothing in {STEPS} steps")


# Samples


@promise("sample(n) gives n float images of the data's shape", "sample", trains)
def samples(case: Case) -> str:
    model = case.trained.eval()
    for n in (COUNT, 1):
        with torch.inference_mode():
            images = model.sample(n, None if case.labels is None else case.labels[:n])
        wanted = (n, *case.shape)
        require(isinstance(images, Tensor), f"sample({n}) gives a {type(images).__name__}, not a tensor")
        require(tuple(images.shape) == wanted, f"sample({n}) has shape {tuple(images.shape)}, not {wanted}")
        require(images.is_floating_point(), f"sample({n}) is {images.dtype}, not a float: the harness quantises")
    require(model.nfe >= 1, f"nfe = {model.nfe}", "nfe")
    return f"{images.dtype}".removeprefix("torch.")


@promise("samples are finite and in the range of images, [-1, 1]", "sample", samples)
def pixels(case: Case) -> str:
    images = case.drawn.float()
    odd = int((~images.flatten(1).isfinite()).any(1).sum())
    require(not odd, f"{odd} of {COUNT} samples have NaN or infinity")
    low, high, outside = float(images.min()), float(images.max()), float((images.abs() > 1).float().mean())
    span = f"values from {low:.3g} to {high:.3g}"
    require(outside <= 0.5, f"{span}, {outside:.0%} of them outside [-1, 1], where the harness clips them")
    require(low < 0 or high <= 0, f"{span}, none of them negative: black is -1, not 0")
    return span


@promise("Python's and NumPy's generators are left alone", "sample", pixels)
def generators(case: Case) -> None:
    found = [name for name in case.touched if name in GENERATORS]
    told = f"{' and '.join(found)} was drawn from or seeded: draw from torch's, which the harness seeds"
    require(not found, told, next((case.touched[name] for name in found), None))


@promise("nothing that the whole process shares is changed", "sample", pixels)
def shared_settings(case: Case) -> None:
    found = [name for name in case.touched if name not in GENERATORS]
    told = f"{' and '.join(found)} changed: the models that run after it would have it too"
    require(not found, told, next((case.touched[name] for name in found), None))


@promise("the same training twice gives the same weights", "loss", generators)
def training_repeats(case: Case) -> None:
    again = case.train().state_dict()
    other = [name for name, tensor in case.trained.state_dict().items() if not torch.equal(tensor, again[name])]
    require(not other, f"{_listed(other)} differ between two equal trainings")


@promise("one seed gives the same samples twice", "sample", generators)
def samples_repeat(case: Case) -> None:
    same = torch.equal(case.drawn, case.sample(case.trained))
    require(same, "two calls with one seed differ: a generator of its own, or state that sampling changes?")


@promise("another seed gives other samples", "sample", pixels)
def samples_vary(case: Case) -> None:
    same = torch.equal(case.drawn, case.sample(case.trained, seed=2))
    require(not same, "two seeds give the same samples: is torch's generator seeded here, or not drawn from?")


@promise("a saved, loaded or copied model draws the same samples", "__init__", training_repeats, samples_repeat)
def survives(case: Case) -> None:
    other = case.build(seed=5)
    other.load_state_dict(stored(case.trained))
    told = "what the samples depend on is in no parameter and no buffer (register_buffer)"
    require(torch.equal(case.sample(other), case.drawn), f"samples differ after saving and loading: {told}")
    require(torch.equal(case.sample(copy.deepcopy(case.trained)), case.drawn), f"samples differ after deepcopy: {told}")


@promise("samples depend on the labels", "sample", samples_repeat)
def labels(case: Case) -> None:
    if not case.conditional:
        raise NotApplicable("drawn without labels" if case.model.conditional else "conditional = False")
    first, last = (case.sample(case.trained, labels=torch.full((COUNT,), label)) for label in (0, CLASSES - 1))
    require(not torch.equal(first, last), f"class 0 and class {CLASSES - 1} give the same images")


# Pictures


@promise("interpolate gives images from one to the other", "interpolate", trains)
def interpolates(case: Case) -> None:
    if not isinstance(case.trained, Interpolation):
        raise NotApplicable("no interpolate()")
    torch.manual_seed(1)
    images, weights = case.batch.images, torch.linspace(0, 1, 3)
    with torch.inference_mode():
        found = case.trained.eval().interpolate(images, images.roll(1, 0), weights, case.batch.labels)
    require_images(found, (3, *images.shape), "interpolate")
    require(not torch.equal(found[0], found[2]), "interpolate gives the same images at weights 0 and 1")


@promise("its chains lead from images to noise and back", "forward_chain", trains)
def chains(case: Case) -> str:
    if not isinstance(case.trained, Chains):
        raise NotApplicable("no forward_chain() and reverse_chain()")
    torch.manual_seed(1)
    with torch.inference_mode():
        there, forward = case.trained.eval().forward_chain(case.batch.images, 3)
        back, reverse = case.trained.reverse_chain(COUNT, 3, case.labels)
    require(there[0] == 0 and bool((there.diff() > 0).all()), f"the times of forward_chain are {there.tolist()}")
    require(
        back[-1] == 0 and bool((back.diff() < 0).all()),
        f"the times of reverse_chain are {back.tolist()}",
        "reverse_chain",
    )
    require_images(forward, (len(there), *case.batch.images.shape), "forward_chain")
    require_images(reverse, (len(back), COUNT, *case.shape), "reverse_chain")
    return f"t = {', '.join(map(str, there.tolist()))}"


def require_images(found: Tensor, shape: tuple[int, ...], method: str) -> None:
    """Raise Broken where a method did not give finite floats of the shape."""
    require(tuple(found.shape) == shape, f"{method} gives the shape {tuple(found.shape)}, not {shape}", method)
    require(found.is_floating_point() and found.isfinite().all(), f"{method} gives what is not finite", method)


# Likelihoods


@promise("log_prob gives a finite number for every image", "log_prob", trains)
def likelihood(case: Case) -> str:
    if not isinstance(case.trained, Likelihood):
        raise NotApplicable("no log_prob()")
    found = case.nats
    require(tuple(found.shape) == (COUNT,), f"log_prob of {COUNT} images has shape {tuple(found.shape)}")
    require(found.isfinite().all(), "log_prob is not finite")
    return f"{case.trained.likelihood}, {bits(case, found).mean():.2f} bits/dim after {STEPS} steps"


@promise("an exact likelihood does not depend on the batch", "log_prob", likelihood)
def likelihood_alone(case: Case) -> None:
    if case.trained.likelihood != "exact":
        raise NotApplicable(f"likelihood = {case.trained.likelihood!r}")
    images, classes = case.batch.images[:1], case.batch.labels
    alone = case.log_prob(case.trained, Batch(images, None if classes is None else classes[:1]))
    told = f"log_prob of an image is {alone[0]:.3f} nats alone, {case.nats[0]:.3f} in a batch of {COUNT}"
    require(torch.allclose(alone[0], case.nats[0], rtol=1e-4, atol=1e-3), told)


@promise("the parts of a bound sum to it", "bound_terms", likelihood)
def bound_parts(case: Case) -> str:
    if not isinstance(case.trained, BoundTerms):
        raise NotApplicable("no bound_terms()")
    torch.manual_seed(1)
    with torch.inference_mode():
        parts = case.trained.eval().bound_terms(case.batch.images, case.batch.labels)
    whole = -case.nats
    total = torch.stack([part.double() for part in parts.values()]).sum(0)
    told = f"the parts of the first image sum to {total[0]:.3f} nats, -log_prob is {whole[0]:.3f}"
    require(torch.allclose(total, whole.double(), rtol=1e-4), told)
    return ", ".join(parts)


@promise("images of pure noise cost 8 bits/dim or more", "log_prob", likelihood)
def noise_costs(case: Case) -> str:
    """By Gibbs' inequality no normalised density averages less on uniform images."""
    levels = torch.randint(0, 256, (MORE, *case.shape), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    batch = case.as_batch(levels, torch.arange(MORE) % CLASSES)
    return _costs(case, batch, 8.0, 1e-3, "uniform images have an entropy of")


@promise("images of known entropy cost no less than it", "log_prob", likelihood)
def known_entropy_costs(case: Case) -> str:
    """By Gibbs' inequality, on test images from the distribution that the model was trained on."""
    limit = entropy(case.shape, case.conditional)
    return _costs(case, case.test, limit.bits_per_dim, limit.error, "their entropy is")


def _costs(case: Case, batch: Batch, limit: float, error: float, what: str) -> str:
    found = bits(case, case.log_prob(case.trained, batch))
    mean, stderr = float(found.mean()), float(found.std()) / len(found) ** 0.5
    told = f"{mean:.3f} bits/dim, but {what} {limit:.3f}: not the logarithm of a normalised density"
    require(mean > limit - error - 3 * stderr, told)
    return f"{mean:.2f} bits/dim, limit {limit:.2f}"


# What the checks share


def bits(case: Case, found: Tensor) -> Tensor:
    """Bits/dim of nats."""
    return bits_per_dim(found, case.spec.dims, case.model.discrete)


def moved(optimizer: torch.optim.Optimizer) -> set[int]:
    """The ids of the parameters that an optimizer moves."""
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def stored(model: Model) -> dict[str, Tensor]:
    """The model's state, written to disk and read again as a checkpoint is."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        store.write_tensors(file, model.state_dict())
        return store.read_tensors(file)


def _names(model: Model, ids: set[int]) -> str:
    return _listed(name for name, parameter in model.named_parameters() if id(parameter) in ids)


def _listed(names: Any) -> str:
    """The first few of some names."""
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
