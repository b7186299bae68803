"""Promises about a model's likelihood: what no normalised density can do."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from genbench.capabilities import BoundTerms, Likelihood
from genbench.conformance.case import CLASSES, COUNT, MORE, STEPS, Case, entropy
from genbench.conformance.promise import NotApplicable, promise, require, require_no_gradients
from genbench.conformance.training import trains
from genbench.data.dataset import Part
from genbench.images import bits_per_dim
from genbench.model import Batch


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


@promise("an exact likelihood does not depend on the batch", "log_prob", likelihood)
def likelihood_alone(case: Case) -> None:
    if case.trained.likelihood != "exact":
        raise NotApplicable(f"likelihood = {case.trained.likelihood!r}")
    alone = case.log_prob(case.trained, case.batch[:1])
    told = f"log_prob of an image is {alone[0]:.3f} nats alone, {case.nats[0]:.3f} in a batch of {COUNT}"
    require(torch.allclose(alone[0], case.nats[0], rtol=1e-4, atol=1e-3), told)


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
    """By Gibbs' inequality, no normalised density averages less on uniform images."""
    levels = torch.randint(0, 256, (MORE, *case.shape), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    batch = case.as_batch(Part(levels.numpy(), np.arange(MORE) % CLASSES))
    return _costs(case, batch, 8.0, 1e-3, "uniform images have an entropy of")


@promise("images of known entropy cost no less than it", "log_prob", likelihood)
def known_entropy_costs(case: Case) -> str:
    """By Gibbs' inequality, on test images from the training distribution."""
    limit = entropy(case.shape, case.kind)
    return _costs(case, case.test, limit.bits_per_dim, limit.error, "their entropy is")


def _costs(case: Case, batch: Batch, limit: float, error: float, what: str) -> str:
    found = bits(case, case.log_prob(case.trained, batch))
    mean, tolerance = float(found.mean()), error + 3 * float(found.std()) / len(found) ** 0.5
    told = f"{mean:.3f} bits/dim, but {what} {limit:.3f}: not the logarithm of a normalised density"
    require(mean > limit - tolerance, told)
    return f"{mean:.2f} ± {tolerance:.2f} bits/dim, limit {limit:.2f}"


def bits(case: Case, found: Tensor) -> Tensor:
    """Nats per image as bits/dim."""
    return bits_per_dim(found, case.spec.dims, case.model.discrete)
