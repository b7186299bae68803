"""Promises about a model's likelihood: what no normalised density can do."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from genbench.capabilities import BoundTerms, Likelihood
from genbench.conformance.case import (
    COUNT,
    MORE,
    NOISE_IMAGES,
    STEPS,
    Case,
    entropy,
    mixture,
    noise_images,
    part_of,
)
from genbench.conformance.conditions import CLASSES
from genbench.conformance.promise import NotApplicable, promise, require, require_no_gradients
from genbench.conformance.training import trains
from genbench.data.condition_plan import conditions_of
from genbench.evaluate.consistency import MANY, dependence
from genbench.evaluate.evidence import Generator, Law, PixelByPixel, Uniform, excess_mass, log_prob_of_levels
from genbench.images import bits_per_dim, to_uint8
from genbench.model import Batch, Model
from genbench.support.errors import describe

PAIRS = 8192
"""Images of two pixels in a call."""
SAMPLED = 8
"""Calls of sample() from which a distribution is fitted."""


@promise("log_prob gives a finite number for every image", "log_prob", trains)
def likelihood(case: Case) -> str:
    if not isinstance(case.trained, Likelihood):
        raise NotApplicable("no log_prob()")
    found = case.nats
    require(tuple(found.shape) == (COUNT,), f"log_prob of {COUNT} images has shape {tuple(found.shape)}")
    require(found.isfinite().all(), "log_prob is not finite")
    return f"{case.trained.likelihood}, {bits(case, found).mean():.2f} bits/dim after {STEPS} steps"


@promise("log_prob leaves no gradients behind", "log_prob", likelihood)
def likelihood_detached(case: Case) -> None:
    """It is called without gradients, which `torch.enable_grad()` turns on inside."""
    model = case.movable
    require_no_gradients(case.log_prob(model, case.batch), model, "log_prob")


@promise("the likelihood of an image depends on no other image", "log_prob", likelihood)
def likelihood_alone(case: Case) -> None:
    """Images that are repeated until there are more than in the largest batch that is tried."""
    drawn, count = case.data.test, MANY + 1 if case.first else MORE
    indices = np.resize(np.arange(len(drawn)), count)
    assert drawn.labels is not None
    batch = case.as_batch(part_of(drawn.images[indices], drawn.labels[indices]))
    model = case.trained.eval()
    assert isinstance(model, Likelihood)

    def values(batch: Batch) -> Tensor:
        with torch.no_grad():
            return bits(case, model.log_prob(batch.images, batch.given)).cpu()

    torch.manual_seed(1)
    told = dependence(values, batch, values(batch), seed=0)
    require(not told, told)


@promise("the parts of a bound sum to it", "bound_terms", likelihood)
def bound_parts(case: Case) -> str:
    if not isinstance(case.trained, BoundTerms):
        raise NotApplicable("no bound_terms()")
    torch.manual_seed(1)
    with torch.no_grad():
        parts = case.trained.eval().bound_terms(case.batch.images, case.batch.given)
    whole = -case.nats
    total = torch.stack([part.double() for part in parts.values()]).sum(0)
    told = f"the parts of the first image sum to {total[0]:.3f} nats, -log_prob is {whole[0]:.3f}"
    require(torch.allclose(total, whole.double(), rtol=1e-4), told)
    return ", ".join(parts)


@promise("images of pure noise cost 8 bits/dim or more", "log_prob", likelihood)
def noise_costs(case: Case) -> str:
    """By Gibbs' inequality, no normalised density averages less on uniform images, not even one trained on them."""
    _require_unseen(case)
    batch = case.as_batch(noise_images(case.shape, 3), NOISE_IMAGES if case.first else MORE)
    return _costs(case, case.trained_on_noise, batch, 8.0, 1e-3, "uniform images have an entropy of")


@promise("images of known entropy cost no less than it", "log_prob", likelihood)
def known_entropy_costs(case: Case) -> str:
    """By Gibbs' inequality, on test images from the training distribution."""
    _require_unseen(case)
    limit = entropy(case.shape, case.kind)
    return _costs(case, case.trained, case.test, limit.bits_per_dim, limit.error, "their entropy is")


@promise("images of two pixels have a probability of at most 1 together", "log_prob", noise_costs, known_entropy_costs)
def two_pixels(case: Case) -> str:
    """Every pair of levels is counted; of a density, one draw in each bin, whose mean over draws is its mass."""
    _require_exact(case)
    if not case.first:
        raise NotApplicable("tried with gray images and without a condition")
    pairs = torch.cartesian_prod(*[torch.arange(256, dtype=torch.uint8)] * 2).view(-1, 1, 1, 2)
    try:
        model = replace(case, shape=(1, 1, 2)).build().eval()
        with torch.no_grad():
            found = [log_prob_of_levels(model, part.to(case.device), None, 0) for part in torch.split(pairs, PAIRS)]
    except Exception as error:
        raise NotApplicable(f"it takes no images of two pixels: {describe(error)}") from None
    shares = torch.cat(found).exp()
    total, stderr = float(shares.sum()), 0.0 if model.discrete else float(shares.square().sum()) ** 0.5
    require(total <= 1 + 1e-3 + 5 * stderr, f"they have {total:.4g} ± {stderr:.2g}: not normalised")
    return f"{total:.4f} ± {stderr:.4f}"


@promise("no draws of a known distribution are evidence of more mass", "log_prob", noise_costs, known_entropy_costs)
def mass(case: Case) -> None:
    _require_exact(case)
    _require_unseen(case)
    source = Generator(mixture(case.shape), case.shape, case.kind == "class")
    for model, law in ((case.trained, source), (case.trained_on_noise, Uniform(case.shape))):
        laws: list[Law] = [law]
        if case.draws:
            drawn = torch.cat([case.sample(model, seed).nan_to_num() for seed in range(SAMPLED)])
            laws.append(PixelByPixel.of(to_uint8(drawn).cpu().numpy()))
        told = excess_mass(partial(_log_prob, case, model), laws, seed=4)
        require(not told, told)


def _require_unseen(case: Case) -> None:
    """Raise NotApplicable for the likelihood of images given what tells more of them than their class."""
    if case.kind not in (None, "class"):
        raise NotApplicable("what is given tells more of an image than its class")


def _require_exact(case: Case) -> None:
    """Raise NotApplicable for a likelihood with noise, of which only the mean says something (`evaluate.evidence`)."""
    if not torch.equal(case.nats, case.log_prob(case.trained, case.batch, seed=2)):
        raise NotApplicable("an estimate with noise")


def _log_prob(case: Case, model: Model, levels: np.ndarray, labels: np.ndarray | None) -> Tensor:
    """log P, nats (B,), of levels given their labels, or the classes in turn."""
    indices = np.arange(len(levels))
    part = part_of(levels, indices % CLASSES if labels is None else labels)
    given = conditions_of(case.kind).given(part, indices, case.device)
    with torch.no_grad():
        return log_prob_of_levels(model.eval(), torch.from_numpy(levels).to(case.device), given, 0)


def _costs(case: Case, model: Model, batch: Batch, limit: float, error: float, what: str) -> str:
    found = bits(case, case.log_prob(model, batch))
    mean, tolerance = float(found.mean()), error + 3 * float(found.std()) / len(found) ** 0.5
    told = f"{mean:.3f} bits/dim, but {what} {limit:.3f}: not the logarithm of a normalised density"
    require(mean > limit - tolerance, told)
    return f"{mean:.2f} ± {tolerance:.2f} bits/dim, limit {limit:.2f}"


def bits(case: Case, found: Tensor) -> Tensor:
    """Nats per image as bits/dim."""
    return bits_per_dim(found, case.spec.dims, case.model.discrete)
