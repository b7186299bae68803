"""Promises about a model's samples and pictures, what drawing them leaves unchanged, and what repeats exactly."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from genbench.capabilities import Chains, Codebook, Interpolation, Likelihood, Reconstruction
from genbench.conformance.case import COUNT, Case
from genbench.conformance.conditions import CLASSES
from genbench.conformance.process_state import GENERATORS
from genbench.conformance.promise import (
    Broken,
    NotApplicable,
    listed,
    promise,
    require,
    require_images,
    require_no_gradients,
)
from genbench.conformance.resumption import resumed
from genbench.conformance.training import stored, trains
from genbench.images import misplaced
from genbench.model import Model


@promise("sample(n) gives n float images of the data's shape", "sample", trains)
def samples(case: Case) -> str:
    if not case.draws and isinstance(case.trained, Likelihood | Reconstruction | Codebook):
        raise NotApplicable("no sample()")
    model = case.trained.eval()
    for n in (COUNT, 1):
        with torch.no_grad():
            images = model.sample(n, case.plan.given(0, n, case.device))
        wanted = (n, *case.shape)
        require(isinstance(images, Tensor), f"sample({n}) returns a {type(images).__name__}, not a tensor")
        require(tuple(images.shape) == wanted, f"sample({n}) has shape {tuple(images.shape)}, not {wanted}")
        require(
            images.is_floating_point(),
            f"sample({n}) is {images.dtype}, not a float: the harness quantises samples itself",
        )
    require(model.nfe >= 1, f"nfe = {model.nfe}", "nfe")
    return f"{images.dtype}".removeprefix("torch.")


@promise("samples are finite and in the range of images, [-1, 1]", "sample", samples)
def pixels(case: Case) -> str:
    images = case.drawn.float()
    odd = int((~images.flatten(1).isfinite()).any(1).sum())
    require(not odd, f"{odd} of {COUNT} samples have NaN or infinity")
    low, high, outside = float(images.min()), float(images.max()), float((images.abs() > 1).float().mean())
    span = f"values from {low:.3g} to {high:.3g}"
    told = misplaced(images, torch.from_numpy(case.data.train.images))
    require(not told, told)
    require(outside <= 0.5, f"{span}, {outside:.0%} of them outside [-1, 1], where the harness clips them")
    require(low < 0 or high <= 0, f"{span}, none of them negative: black is -1, not 0")
    return span


@promise("sample leaves no gradients behind", "sample", samples)
def samples_detached(case: Case) -> None:
    """It is called without gradients, which `torch.enable_grad()` turns on inside."""
    model = case.movable
    require_no_gradients(case.sample(model), model, "sample")


@promise("Python's and NumPy's generators are left alone", "sample", trains, after=(pixels,))
def generators(case: Case) -> None:
    found = [name for name in case.touched if name in GENERATORS]
    told = f"{' and '.join(found)} was used or seeded: draw from torch's, which the harness seeds"
    require(not found, told, next((case.touched[name] for name in found), None))


@promise("nothing that the whole process shares is changed", "sample", trains, after=(pixels,))
def shared_settings(case: Case) -> None:
    found = [name for name in case.touched if name not in GENERATORS]
    told = f"{' and '.join(found)} changed, which affects every model that runs afterwards"
    require(not found, told, next((case.touched[name] for name in found), None))


@promise("the same training twice gives the same weights", "loss", generators)
def training_repeats(case: Case) -> None:
    again = case.train().state_dict()
    other = [name for name, tensor in case.trained.state_dict().items() if not torch.equal(tensor, again[name])]
    require(not other, f"weights that differ between two equal trainings: {listed(other)}")


@promise("training that is saved, loaded and continued gives the weights of one that was not", "loss", training_repeats)
def training_resumes(case: Case) -> None:
    """All that training changes is in the checkpoint, so that a killed job continues as if it had not been killed."""
    again = resumed(case)
    state = again.model.state_dict()
    other = [name for name, tensor in case.trained.state_dict().items() if not torch.equal(tensor, state[name])]
    lost = f"state that is not saved: {listed(again.lost)} (keep it in a persistent buffer, register_buffer)"
    why = lost if again.lost else "does the loss depend on a closure, a generator or a file?"
    look = next((place for place in again.lost.values() if place is not None), None)
    require(not other, f"weights that differ: {listed(other)}; {why}", look)


@promise("one seed gives the same samples twice", "sample", pixels, generators)
def samples_repeat(case: Case) -> None:
    same = torch.equal(case.drawn, case.sample(case.trained))
    require(
        same, "two calls with the same seed differ: does it have its own generator, or state that sampling changes?"
    )


@promise("another seed gives other samples", "sample", pixels)
def samples_vary(case: Case) -> None:
    same = torch.equal(case.drawn, case.sample(case.trained, seed=2))
    require(not same, "two seeds give the same samples: is torch's generator seeded here, or not used?")


@promise("a saved, loaded or copied model draws the same samples", "__init__", training_resumes, samples_repeat)
def survives(case: Case) -> None:
    other = case.build(seed=5)
    other.load_state_dict(stored(case.trained.state_dict()))
    told = "they depend on state that is neither a parameter nor a buffer (register_buffer)"
    require(torch.equal(case.sample(other), case.drawn), f"samples differ after saving and loading: {told}")
    require(torch.equal(case.sample(copy.deepcopy(case.trained)), case.drawn), f"samples differ after deepcopy: {told}")


@promise("another condition gives other samples", "sample", samples_repeat)
def conditioned(case: Case) -> None:
    if case.kind is None:
        raise NotApplicable("sampled without a condition" if case.model.kinds() else "it takes no condition")
    for model in (case.trained, shaken(case.trained)):
        first, last = (case.sample(model, plan=case.same(number)).nan_to_num() for number in (0, CLASSES - 1))
        if not torch.equal(first, last):
            return
    raise Broken(f"{case.kind} 0 and {case.kind} {CLASSES - 1} give the same images")


@torch.no_grad()
def shaken(model: Model) -> Model:
    """A copy with noise on every parameter, since a layer that starts at zero hides whatever comes before it."""
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    return other


@promise("interpolate gives images from one to the other", "interpolate", trains)
def interpolates(case: Case) -> None:
    if not isinstance(case.trained, Interpolation):
        raise NotApplicable("no interpolate()")
    torch.manual_seed(1)
    images, weights = case.batch.images, torch.linspace(0, 1, 3, device=case.device)
    with torch.no_grad():
        found = case.trained.eval().interpolate(images, images.roll(1, 0), weights, case.batch.given)
    require_images(found, (3, *images.shape), "interpolate")
    require(not torch.equal(found[0], found[2]), "interpolate gives the same images at weights 0 and 1")


@promise("its chains lead from images to noise and back", "forward_chain", trains)
def chains(case: Case) -> str:
    if not isinstance(case.trained, Chains):
        raise NotApplicable("no forward_chain() and reverse_chain()")
    torch.manual_seed(1)
    with torch.no_grad():
        there, forward = case.trained.eval().forward_chain(case.batch.images, 3)
        back, reverse = case.trained.reverse_chain(COUNT, 3, case.plan.given(0, COUNT, case.device))
    require(there[0] == 0 and bool((there.diff() > 0).all()), f"the times of forward_chain are {there.tolist()}")
    require(
        back[-1] == 0 and bool((back.diff() < 0).all()),
        f"the times of reverse_chain are {back.tolist()}",
        "reverse_chain",
    )
    require_images(forward, (len(there), *case.batch.images.shape), "forward_chain")
    require_images(reverse, (len(back), COUNT, *case.shape), "reverse_chain")
    return f"t = {', '.join(map(str, there.tolist()))}"
