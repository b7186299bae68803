"""Optional abilities of a model, recognised by its methods alone: nothing is declared.

If an option leaves a method no meaning, `__init__` takes it away from that model: see `without`.

`given` has one condition per image and is passed by position, as to `Model.sample`.
"""

from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from genbench.condition import Given
from genbench.model import Model


@runtime_checkable
class Likelihood(Protocol):
    """A model with a likelihood, exact, bounded or estimated (see `Model.likelihood`)."""

    def log_prob(self, images: Tensor, given: Given = None, /) -> Tensor:
        """Nats per image, (B,), of dequantised images (B, C, H, W), or of bin centres if the model is discrete."""
        ...


@runtime_checkable
class BoundTerms(Protocol):
    """A model whose likelihood bound has parts; the record keeps them with the value."""

    def bound_terms(self, images: Tensor, given: Given = None, /) -> dict[str, Tensor]:
        """The parts of -log_prob by name, nats per image (B,): under one seed they sum to it."""
        ...


class SumOfTerms:
    """A mixin that gives a model with `bound_terms` its `log_prob`: minus their sum."""

    def log_prob(self: BoundTerms, images: Tensor, labels: Given = None) -> Tensor:
        """Nats per image, (B,)."""
        return -torch.stack(list(self.bound_terms(images, labels).values())).sum(0)


@runtime_checkable
class BoundOverTime(Protocol):
    """A model whose bound is a sum over the steps of a process; the report draws its terms."""

    def bound_over_time(self, images: Tensor, given: Given = None, /) -> tuple[Tensor, Tensor]:
        """Some times, ascending int64 (T,), and the term of each, nats per image (T, B)."""
        ...


@runtime_checkable
class EvidenceBound(Protocol):
    """A model with an evidence lower bound that is looser than its `log_prob`, such as that of a VAE."""

    def elbo_terms(self, images: Tensor, given: Given = None, /) -> dict[str, Tensor]:
        """The parts of -ELBO by name, nats per image (B,)."""
        ...


@runtime_checkable
class Reconstruction(Protocol):
    """A model that encodes and decodes images, such as a first stage; it gets `rfid`, `psnr` and `ssim`."""

    def reconstruct(self, images: Tensor, given: Given = None) -> Tensor:
        """What is left of the images (B, C, H, W) after encoding and decoding: floats of their shape in [-1, 1].

        `images` are as in `log_prob`: dequantised, or bin centres if the model is discrete.
        """
        ...


@runtime_checkable
class Codebook(Protocol):
    """A model that encodes images by the entries of a codebook; it gets `code_use` and `code_perplexity`."""

    def codes(self, images: Tensor, given: Given = None) -> Tensor:
        """The code at each position of the latents, int64 (B, ...) in [0, codebook_size()), of images (B, C, H, W)."""
        ...

    def codebook_size(self) -> int:
        """How many codes there are."""
        ...


@runtime_checkable
class Classifier(Protocol):
    """A model that tells the class of an image, such as JEM; it gets `accuracy` if the job conditions on the class."""

    def classify(self, images: Tensor, /) -> Tensor:
        """A logit of each of `data.num_classes` classes, float (B, num_classes), for images (B, C, H, W).

        `images` are as in `log_prob`. Their labels are what is asked for, so they are not given.
        """
        ...


@runtime_checkable
class Interpolation(Protocol):
    """A model that can lead from one given image to another; the report draws this as a strip."""

    def interpolate(self, first: Tensor, second: Tensor, weights: Tensor, given: Given = None, /) -> Tensor:
        """Images (S, B, C, H, W) in [-1, 1] from `first` to `second`, (B, C, H, W), at weights in [0, 1], (S,).

        `given` is of both, or of the first if no two images share a condition.
        """
        ...


@runtime_checkable
class Chains(Protocol):
    """A model whose samples come about step by step; the report draws the way to noise and the way back.

    Intermediate states that are not images, such as latents, are decoded.
    """

    def forward_chain(self, images: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """About `count` times ascending from 0, int64 (S,), and what the images become at each, (S, B, C, H, W)."""
        ...

    def reverse_chain(self, n: int, count: int, given: Given = None, /) -> tuple[Tensor, Tensor]:
        """About `count` times descending to 0, int64 (S,), and how `n` samples come about, (S, n, C, H, W)."""
        ...


CAPABILITIES: dict[str, type] = {
    "likelihood": Likelihood,
    "bound terms": BoundTerms,
    "bound over time": BoundOverTime,
    "elbo": EvidenceBound,
    "reconstruction": Reconstruction,
    "codebook": Codebook,
    "classifier": Classifier,
    "interpolation": Interpolation,
    "chains": Chains,
}


def capabilities(model: type) -> list[str]:
    """The names of a model class's abilities."""
    return [name for name, protocol in CAPABILITIES.items() if issubclass(model, protocol)]


def defines(model: type[Model], method: str) -> bool:
    """Whether a model class has a `loss` or a `sample`, which the base class only names."""
    found = getattr(model, method)
    return found is not getattr(Model, method) and callable(found)


def without(model: Model, *methods: str) -> None:
    """Take methods of its class away from one model, which then lacks the abilities that need them.

    For options that leave them no meaning, such as a likelihood of latent diffusion on a first stage that has none::

        if config.first_stage == "vq":
            without(self, "log_prob", "bound_terms", "bound_over_time")
    """
    kind = type(model)
    about = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    model.__class__ = cast(type[Model], type(kind.__name__, (kind,), {**about, **dict.fromkeys(methods)}))
