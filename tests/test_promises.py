"""A model that breaks a promise is told of by that promise and no other, with the line to look at: marked `# look`."""

import inspect
import math
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import Toy, TwoPhases

from genbench import Phase, adamw, field
from genbench.conformance.promises import PROMISES
from genbench.conformance.verdicts import check_cases, merged
from genbench.testing import check_model

BROKEN, ABOUT = {}, {}


def breaks(*promises):
    """What the check should say of the class: these promises are broken, and no other."""

    def keep(model):
        BROKEN[model] = set(promises)
        return model

    return keep


class Two(TwoPhases):
    def sample(self, n, labels=None):
        return 0.1 * torch.randn(n, *self.data.shape)


# The class


@breaks("it has a name of its own")
class Nameless(Toy):  # look
    name = "real"


@breaks("every option says what changing it asks for; presets are valid")
class NoRole(Toy):
    class Config(Toy.Config):  # look
        width: int = 3


@breaks("every option says what changing it asks for; presets are valid")
class BadPreset(Toy):  # look
    presets = {"paper": {"stepz": 3}}


@breaks("every option says what changing it asks for; presets are valid")
class BadTinyPreset(Toy):  # look
    presets = {"tiny": {"steps": -1}}


@breaks("it can be built")
class GrayOnly(Toy):
    def __init__(self, data, config):
        super().__init__(data, config)
        (self.one,) = range(data.shape[0])  # look


# Training


@breaks("every optimizer has parameters of its own, in its phase's module")
class SharedParameters(Two):
    def phases(self):  # look
        return [super().phases()[0], Phase("second", self.second, adamw(self, 0.1))]


@breaks("every optimizer has parameters of its own, in its phase's module")
class OtherModule(Two):
    def phases(self):  # look
        return [
            Phase("first", self.second, adamw(self.first, 0.1)),
            Phase("second", self.first, adamw(self.second, 0.1)),
        ]


@breaks("every phase gives a finite scalar loss")
class NoGradient(Toy):
    def loss(self, phase, batch):  # look
        return batch.images.mean()


@breaks("every phase gives a finite scalar loss")
class LossRaises(Toy):
    def loss(self, phase, batch):
        return self.error(batch).mean()

    def error(self, batch):
        return batch.images - self.maen  # look


@breaks("every phase gives a finite scalar loss")
class LossIsNaN(Toy):
    def loss(self, phase, batch):  # look
        return super().loss(phase, batch)["loss"] * float("nan")


@breaks("every phase gives a finite scalar loss")
class DividesByProgress(Toy):
    def loss(self, phase, batch):  # look
        return super().loss(phase, batch)["loss"] / torch.tensor(batch.progress)


@breaks("every phase gives a finite scalar loss")
class FailsLater(Toy):
    def loss(self, phase, batch):
        return super().loss(phase, batch)["loss" if batch.progress < 0.5 else "lost"]  # look


@breaks("every parameter belongs to a phase and gets a gradient")
class IdleParameter(Toy):
    def __init__(self, data, config):
        super().__init__(data, config)
        self.idle = torch.nn.Linear(2, 2)  # look


@breaks("every parameter belongs to a phase and gets a gradient")
class ForgottenParameter(Two):
    def __init__(self, data, config):
        super().__init__(data, config)
        self.forgotten = torch.nn.Parameter(torch.zeros(2))  # look

    def loss(self, phase, batch):
        return super().loss(phase, batch) + self.forgotten.sum()


@breaks("an update moves the parameters of its phase alone")
class MovesAnother(Two):
    def loss(self, phase, batch):  # look
        if phase == "first":
            with torch.no_grad():
                self.second.bias += 1
        return super().loss(phase, batch)


@breaks("tensors it keeps are parameters or buffers")
class PlainTensor(Toy):
    def __init__(self, data, config):  # look
        super().__init__(data, config)
        self.noise = torch.zeros(data.shape)


class Part(torch.nn.Module):
    def __init__(self):  # look
        super().__init__()
        self.steps = torch.arange(3)


@breaks("tensors it keeps are parameters or buffers")
class PlainTensorOfAPart(Toy):
    def __init__(self, data, config):
        super().__init__(data, config)
        self.part = Part()


ABOUT[PlainTensorOfAPart] = Part


@breaks("state is tensors, stored without pickle")
class NeedsPickle(Toy):
    def get_extra_state(self):  # look
        return {"seen": 3}

    def set_extra_state(self, state):
        self.seen_before = state["seen"]


@breaks("settling leaves finite weights")
class SettlesToNaN(Toy):
    def settle(self, batch):  # look
        self.seen.fill_(float("nan"))


@breaks("training leaves finite weights")
class Diverges(Toy):
    def loss(self, phase, batch):  # look
        loss = super().loss(phase, batch)["loss"]
        return loss * (float("inf") if self.seen > 24 else 1.0)


@breaks("training moves every phase's parameters")
class NeverMoves(Toy):
    def phases(self):  # look
        return [Phase("train", self, adamw(self, 0.1), schedule=lambda progress: 0.0)]


@breaks("the same training twice gives the same weights")
class NeverTheSame(Toy):
    def loss(self, phase, batch):  # look
        return super().loss(phase, batch)["loss"] * (1 + os.urandom(1)[0])


RESUMES = "training that is saved, loaded and continued gives the weights of one that was not"


@breaks(RESUMES)
class CountsInPython(Toy):
    def __init__(self, data, config):
        super().__init__(data, config)
        self.count = 0  # look

    def loss(self, phase, batch):
        self.count += 1
        return super().loss(phase, batch)["loss"] * self.count


@breaks(RESUMES)
class ReplaysAList(Toy):
    def __init__(self, data, config):
        super().__init__(data, config)
        self.replay = []  # look

    def loss(self, phase, batch):
        self.replay.append(batch.images.mean(0))
        return (torch.stack(self.replay).mean(0) - self.mean).square().mean()


@breaks(RESUMES)
class KeepsNumPy(Toy):
    def __init__(self, data, config):
        super().__init__(data, config)
        self.level = np.zeros(())  # look

    def loss(self, phase, batch):
        self.level += 1
        return super().loss(phase, batch)["loss"] * float(self.level)


@breaks(RESUMES)
class KeepsAGenerator(Toy):
    def __init__(self, data, config):
        super().__init__(data, config)
        self.generator = np.random.default_rng(0)  # look

    def loss(self, phase, batch):
        return super().loss(phase, batch)["loss"] * (1 + float(self.generator.random()))


@breaks(RESUMES)
class BufferNotSaved(Toy):
    def __init__(self, data, config):
        super().__init__(data, config)
        self.register_buffer("level", torch.zeros(()), persistent=False)

    def loss(self, phase, batch):
        self.level += 1  # look
        return super().loss(phase, batch)["loss"] * self.level


class Counter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.count = 0  # look

    def forward(self):
        self.count += 1
        return self.count


@breaks(RESUMES)
class CountsInAPart(Toy):
    """In the second half of the training only."""

    def __init__(self, data, config):
        super().__init__(data, config)
        self.part = Counter()

    def loss(self, phase, batch):
        return super().loss(phase, batch)["loss"] * (self.part() if self.seen > 24 else 1)


ABOUT[CountsInAPart] = Counter


@breaks(RESUMES)
class CountsInAClosure(Toy):
    def __init__(self, data, config):
        super().__init__(data, config)
        numbers = iter(range(1, 100))
        self.next = lambda: next(numbers)

    def loss(self, phase, batch):  # look
        return super().loss(phase, batch)["loss"] * self.next()


# Samples


@breaks("sample(n) gives n float images of the data's shape")
class WrongShape(Toy):
    def sample(self, n, labels=None):  # look
        return super().sample(n, labels)[:, :, 1:]


@breaks("sample(n) gives n float images of the data's shape")
class WrongCount(Toy):
    def sample(self, n, labels=None):  # look
        return super().sample(6, labels)


@breaks("sample(n) gives n float images of the data's shape")
class WrongType(Toy):
    def sample(self, n, labels=None):  # look
        return (super().sample(n, labels) * 128).to(torch.uint8)


@breaks("sample(n) gives n float images of the data's shape")
class SampleRaises(Toy):
    def sample(self, n, labels=None):
        raise SystemExit(3)  # look


@breaks("samples are finite and in the range of images, [-1, 1]")
class NotFinite(Toy):
    def sample(self, n, labels=None):  # look
        return super().sample(n, labels) / 0


@breaks("samples are finite and in the range of images, [-1, 1]")
class Levels(Toy):
    def sample(self, n, labels=None):  # look
        return 255 * super().sample(n, labels).sigmoid()


@breaks("samples are finite and in the range of images, [-1, 1]")
class NoNegatives(Toy):
    def sample(self, n, labels=None):  # look
        return super().sample(n, labels).sigmoid()


class Energy(Toy):
    """Draws by Langevin dynamics, and has a likelihood that needs a gradient."""

    def energy(self, images):
        return (images - self.mean).square().flatten(1).sum(1)

    def slope(self, images):
        with torch.enable_grad():
            images = images.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.energy(images).sum(), images)
        return slope

    def sample(self, n, labels=None):
        images = torch.rand(n, *self.data.shape) - 0.5
        for _ in range(3):
            images = images - 0.1 * self.slope(images) + 0.01 * torch.randn_like(images)
        return images

    def log_prob(self, images, labels=None):
        return -2e4 - 0 * self.slope(images).flatten(1).sum(1)


@breaks("sample leaves no gradients behind")
class KeepsTheGraph(Energy):
    def sample(self, n, labels=None):  # look
        with torch.enable_grad():
            return super().sample(n, labels) + 0 * self.mean


@breaks("sample leaves no gradients behind")
class GradientsOfSampling(Energy):
    def sample(self, n, labels=None):  # look
        images = super().sample(n, labels)
        with torch.enable_grad():
            images.requires_grad_()
            self.energy(images).sum().backward()
        return (images - 0.1 * images.grad).detach()


@breaks("log_prob leaves no gradients behind")
class GradientsOfLikelihood(Energy):
    def log_prob(self, images, labels=None):  # look
        with torch.enable_grad():
            self.energy(images.detach().requires_grad_()).sum().backward()
        return super().log_prob(images, labels)


@breaks("log_prob leaves no gradients behind")
class LikelihoodWithItsGraph(Energy):
    def log_prob(self, images, labels=None):  # look
        with torch.enable_grad():
            return super().log_prob(images, labels) + 0 * self.mean.sum()


@breaks("Python's and NumPy's generators are left alone")
class PythonGenerator(Toy):
    def loss(self, phase, batch):  # look
        random.random()
        return super().loss(phase, batch)


@breaks("Python's and NumPy's generators are left alone")
class NumpyGenerator(Toy):
    def sample(self, n, labels=None):  # look
        return super().sample(n, labels) + float(np.random.randn()) / 1e6


@breaks("nothing that the whole process shares is changed")
class ChangesThreads(Toy):
    def __init__(self, data, config):  # look
        super().__init__(data, config)
        torch.set_num_threads(torch.get_num_threads() + 1)
        os.environ["TOY"] = "built"


@breaks("one seed gives the same samples twice")
class OwnGenerator(Toy):
    def __init__(self, data, config):
        super().__init__(data, config)
        self.generator = np.random.default_rng(0)

    def sample(self, n, labels=None):  # look
        return super().sample(n, labels) + 0.1 * float(self.generator.random())


@breaks("another seed gives other samples")
class Reseeds(Toy):
    def sample(self, n, labels=None):  # look
        torch.manual_seed(0)
        return super().sample(n, labels)


@breaks("a saved, loaded or copied model draws the same samples")
class Forgets(Toy):
    def __init__(self, data, config):  # look
        super().__init__(data, config)
        self.shift = float(torch.rand(())) / 10

    def sample(self, n, labels=None):
        return super().sample(n, labels) + self.shift


@breaks("another condition gives other samples")
class IgnoresLabels(Toy):
    conditional = True

    def sample(self, n, labels=None):  # look
        return super().sample(n)


@breaks("another condition gives other samples")
class IgnoresHoles(Toy):
    conditions = ("hole",)

    def sample(self, n, given=None):  # look
        return super().sample(n)


# Pictures


@breaks("interpolate gives images from one to the other")
class StandsStill(Toy):
    def interpolate(self, first, second, weights, labels=None):  # look
        return first.expand(len(weights), *first.shape)


@breaks("interpolate gives images from one to the other")
class SwapsAxes(Toy):
    def interpolate(self, first, second, weights, labels=None):  # look
        return torch.stack([torch.lerp(first, second, weight) for weight in weights], dim=1)


class Chained(Toy):
    def forward_chain(self, images, count):
        return torch.arange(count), images.expand(count, *images.shape)

    def reverse_chain(self, n, count, labels=None):
        return torch.arange(count).flip(0), torch.zeros(count, n, *self.data.shape)


@breaks("its chains lead from images to noise and back")
class Backwards(Chained):
    def forward_chain(self, images, count):  # look
        times, states = super().forward_chain(images, count)
        return times.flip(0), states


@breaks("its chains lead from images to noise and back")
class Explodes(Chained):
    def reverse_chain(self, n, count, labels=None):  # look
        times, states = super().reverse_chain(n, count, labels)
        return times, states / 0


# Likelihoods


@breaks("log_prob gives a finite number for every image")
class OneNumber(Toy):
    def log_prob(self, images, labels=None):  # look
        return (images - self.mean).square().sum()


@breaks("the likelihood of an image depends on no other image")
class BatchDependent(Toy):
    def log_prob(self, images, labels=None):  # look
        return (images - images.mean(0)).flatten(1).square().sum(1) - 2e4


@breaks("the likelihood of an image depends on no other image")
class ExactBelow100(Toy):
    def log_prob(self, images, labels=None):  # look
        return -2e4 - images.flatten(1).square().sum(1) + (5 if len(images) > 100 else 0)


@breaks("the parts of a bound sum to it")
class PartsMissing(Toy):
    likelihood = "bound"

    def bound_terms(self, images, labels=None):  # look
        return {"L_T": torch.ones(len(images)), "L_0": torch.ones(len(images))}

    def log_prob(self, images, labels=None):
        return -3e4 * torch.ones(len(images))


@breaks("images of pure noise cost 8 bits/dim or more")
class NoDensity(Toy):
    def log_prob(self, images, labels=None):  # look
        return 0 * images.flatten(1).sum(1)


@breaks("images of known entropy cost no less than it")
class BelowTheEntropy(Toy):
    """A Gaussian whose constant is wrong: it is not seen on noise, which lies far from it."""

    def log_prob(self, images, labels=None):  # look
        return (2.4 - 10 * images.square()).flatten(1).sum(1)


class Normal(Toy):
    """A density of the right mass, of the samples."""

    deviation = 1 / 30

    def __init__(self, data, config):
        super().__init__(data, config)
        self.log_std = torch.nn.Parameter(torch.full(data.shape, math.log(self.deviation)))

    def loss(self, phase, batch):
        return -Normal.log_prob(self, batch.images).mean() / self.data.dims

    def log_prob(self, images, labels=None):
        return torch.distributions.Normal(self.mean, self.log_std.exp()).log_prob(images).flatten(1).sum(1)

    def sample(self, n, labels=None):
        return self.mean + self.log_std.exp() * torch.randn(n, *self.data.shape)


@breaks("images of pure noise cost 8 bits/dim or more")
class HalfABitTooGood(Normal):
    """Seen only once the model has learned noise: before, the noise lies too far out."""

    deviation = 1.0

    def log_prob(self, images, labels=None):  # look
        return super().log_prob(images) + 0.5 * self.data.dims * math.log(2)


@breaks("images of two pixels have a probability of at most 1 together")
class HalfAsMuchAgain(Normal):
    """Far too little for a mean over images to show."""

    deviation = 1 / 4

    def log_prob(self, images, labels=None):  # look
        return super().log_prob(images) + math.log(1.5)


@breaks("no draws of a known distribution are evidence of more mass")
class OneBitTooGood(Normal):
    """In images of more than two pixels, and too narrow to be near the images or noise."""

    def loss(self, phase, batch):
        return Toy.loss(self, phase, batch)["loss"] + 0 * self.log_std.sum()

    def log_prob(self, images, labels=None):  # look
        return super().log_prob(images) + self.data.dims * math.log(2) * (self.data.dims > 2)


# Reconstructions


@breaks("reconstruct gives an image for every image")
class ReconstructsCrops(Toy):
    def reconstruct(self, images, labels=None):  # look
        return images[..., 1:]


@breaks("reconstruct gives an image for every image")
class ReconstructsLevels(Toy):
    def reconstruct(self, images, labels=None):  # look
        return (images + 1) * 128


@breaks("reconstruct leaves no gradients behind")
class ReconstructsWithGraph(Toy):
    def reconstruct(self, images, labels=None):  # look
        with torch.enable_grad():
            return images + self.mean


class Coded(Toy):
    def codes(self, images, labels=None):
        return ((images.flatten(1) + 1) * 128).long()

    def codebook_size(self):
        return 256


@breaks("codes are whole numbers of the codebook")
class CodesOutside(Coded):
    def codes(self, images, labels=None):  # look
        return super().codes(images) + 256


@breaks("codes are whole numbers of the codebook")
class CodesOfFloats(Coded):
    def codes(self, images, labels=None):  # look
        return super().codes(images).float()


@breaks("codes are whole numbers of the codebook")
class NoCodes(Coded):
    def codebook_size(self):  # look
        return 0


# Classification


class Classifies(Toy):
    conditional = True

    def classify(self, images):
        return images.flatten(1)[:, : self.data.num_classes]


@breaks("classify gives a finite logit of each class for every image")
class GuessesClasses(Classifies):
    def classify(self, images):  # look
        return super().classify(images).argmax(1)


@breaks("classify gives a finite logit of each class for every image")
class CertainOfClasses(Classifies):
    def classify(self, images):  # look
        return super().classify(images).sign() * math.inf


def marked(model):
    """File and line of the mark within the class, or of the part that it is about."""
    lines, first = inspect.getsourcelines(ABOUT.get(model, model))
    (line,) = [first + i for i, text in enumerate(lines) if text.rstrip().endswith("# look")]
    return Path(__file__).resolve(), line


@pytest.mark.parametrize("model", BROKEN, ids=lambda model: model.__name__)
def test_the_broken_promise_is_told_with_its_line(model):
    found = [verdict for verdict in merged(check_cases(model)) if verdict.state == "FAIL"]
    assert {verdict.promise for verdict in found} == BROKEN[model]
    (verdict,) = found
    assert verdict.found and (Path(verdict.place.file), verdict.place.line) == marked(model)
    assert ABOUT.get(model, model).__name__ in verdict.place.within


@pytest.mark.parametrize(
    ("model", "lost"),
    [
        (CountsInPython, "count"),
        (ReplaysAList, "replay"),
        (KeepsNumPy, "level"),
        (KeepsAGenerator, "generator"),
        (BufferNotSaved, "level"),
        (CountsInAPart, "part.count"),
    ],
)
def test_what_a_resumed_training_has_lost_is_named(model, lost):
    (verdict,) = [verdict for verdict in merged(check_cases(model)) if verdict.state == "FAIL"]
    assert verdict.found.startswith(f"weights that differ: mean; state that is not saved: {lost} (")


def test_state_outside_the_checkpoint_that_no_weight_depends_on_is_no_broken_promise():
    class Logs(Toy):
        def __init__(self, data, config):
            super().__init__(data, config)
            self.losses = []

        def loss(self, phase, batch):
            losses = super().loss(phase, batch)
            self.losses.append(losses["loss"].item())
            return losses

    check_model(Logs)


def test_a_normalised_density_keeps_every_promise():
    check_model(Normal)


def test_a_model_whose_methods_need_gradients_keeps_every_promise():
    check_model(Energy)


def test_every_promise_has_a_model_that_breaks_it():
    assert {promise.text for promise in PROMISES} == set().union(*BROKEN.values())


def test_the_process_is_as_it_was():
    before = torch.get_num_threads()
    list(check_cases(ChangesThreads))
    assert torch.get_num_threads() == before and "TOY" not in os.environ


def test_a_class_behind_a_layer_that_is_still_zero_is_no_broken_promise():
    """As in a model that warms up over thousands of steps, of which the check takes six."""

    class Hidden(Toy):
        conditional = True

        def __init__(self, data, config):
            super().__init__(data, config)
            self.classes, self.last = torch.nn.Embedding(10, 1), torch.nn.Parameter(torch.zeros(()))

        def shift(self, labels):
            return 0 if labels is None else self.last * self.classes(labels)[:, :, None, None]

        def loss(self, phase, batch):
            moved = Toy.loss(self, phase, batch)["loss"]
            return moved + 0 * self.last + 0 * self.classes.weight.sum()

        def sample(self, n, labels=None):
            return super().sample(n, None) + self.shift(labels)

    class Ignored(Hidden):
        def shift(self, labels):
            return 0

    (told,) = [v for v in merged(check_cases(Hidden)) if v.promise == "another condition gives other samples"]
    assert told.state == "pass"
    (told,) = [v for v in merged(check_cases(Ignored)) if v.promise == "another condition gives other samples"]
    assert told.state == "FAIL" and "the same images" in told.found


def test_images_that_only_some_sizes_suit():
    class Sides32(Toy):
        class Config(Toy.Config):
            def check(self, data):
                if data.shape[1] % 32 or data.shape[0] == 3:
                    raise ValueError("gray images with sides of 32 only")

    assert {case for verdict in merged(check_cases(Sides32)) for case in verdict.cases} == {"1x32x32"}
    check_model(Sides32)

    class None_(Toy):
        class Config(Toy.Config):
            def check(self, data):
                raise ValueError("no images at all")

    with pytest.raises(AssertionError, match="no images at all"):
        check_model(None_)


def test_the_assertion_names_promise_fault_and_line():
    file, line = marked(WrongShape)
    with pytest.raises(AssertionError, match="WrongShape breaks") as failure:
        check_model(WrongShape)
    text = str(failure.value)
    assert "(6, 1, 7, 8), not (6, 1, 8, 8)" in text and f"{file.name}:{line}, in WrongShape.sample()" in text


def test_an_option_of_the_check_is_the_models_own():
    class Sharp(Toy):
        class Config(Toy.Config):
            shift: float = field(0.0, "sample", "added to every pixel")

        def sample(self, n, labels=None):
            return super().sample(n, labels) + self.config.shift

    check_model(Sharp)
    with pytest.raises(AssertionError, match="in the range of images"):
        check_model(Sharp, shift=3.0)
