"""bits/dim of test and training images, for every model that has a likelihood, under one convention."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genbench.capabilities import BoundTerms, EvidenceBound, Likelihood
from genbench.condition import Given
from genbench.data.condition_plan import conditions_of
from genbench.data.dataset import Dataset, Part
from genbench.data.mixture import Mixture
from genbench.evaluate.consistency import dependence
from genbench.evaluate.evidence import Generator, Law, PixelByPixel, excess_mass, log_prob_of_levels
from genbench.evaluate.parts import once
from genbench.images import LEVELS, bits_per_dim
from genbench.metrics.features import chosen
from genbench.metrics.value import mean_of
from genbench.model import Batch, Model
from genbench.records.checkpoint import weights_digest
from genbench.records.job import Job
from genbench.records.protocol import LIKELIHOOD
from genbench.records.record import Measurement
from genbench.records.samples import Samples
from genbench.support.progress import alive_at_calls, report, stop_if_requested
from genbench.support.seeds import derive_seed
from genbench.support.store import release

Terms = Callable[[Tensor, Given], dict[str, Tensor]]
"""(images, their condition) -> terms of the negative log-likelihood, nats per image."""
ELBO_NOTE = "evidence lower bound, from one draw of the latents per image"
BLOCK = 250


def likelihood_measurements(job: Job, model: Model, data: Dataset, samples: Samples | None = None) -> list[Measurement]:
    """`bits_per_dim_test` and `_train`: means over the same seeded images for every model, with their errors.

    If the model also has a looser evidence bound, that is a separate metric, `bits_per_dim_elbo_test` and `_train`. A
    value that is found to be no likelihood fails (`consistency`, `evidence`): this is tried on the test images, and on
    the training images only if one of the test images' values failed. The model's `samples` say where it has its mass.
    """
    found: list[Measurement] = []
    for split, part in (("test", data.test), ("train", data.train)):
        if not isinstance(model, Likelihood):
            about = {"metric": f"bits_per_dim_{split}", "better": "lower", "settings": protocol(job, data, split, part)}
            reason = "the model defines no likelihood"
            found.append(Measurement(**about, value=None, status="not_applicable", note=reason))
            continue
        doubts = None
        if split == "test" or any(measured.status == "failed" for measured in found):
            doubts = Doubts(job, model, data, samples)
        behind = {"split": split, "weights": weights_digest(model), "samples": job.samples_key if samples else ""}

        def measure(part: Part = part, split: str = split, doubts: Doubts | None = doubts) -> list[Measurement]:
            return split_measurements(job, model, data, part, split, doubts)

        found += once(job, behind, measure)
    return found


def split_measurements(
    job: Job, model: Model, data: Dataset, part: Part, split: str, doubts: Doubts | None = None
) -> list[Measurement]:
    """bits/dim of a split for a model that has a likelihood, and its looser bound if it has one."""
    assert isinstance(model, Likelihood)
    common: dict[str, Any] = {"better": "lower", "settings": protocol(job, data, split, part)}
    common["discrete"] = model.discrete
    bits = split_bits(job, model, part, split, terms_of(model), "log_prob")
    about = {"metric": f"bits_per_dim_{split}", "kind": model.likelihood, "note": note(model)}
    doubt = doubts and (doubts.of_batches(part, split, terms_of(model), bits) or doubts.of_mass())
    found = [mean_bits(bits, about | common, doubt or "")]
    if isinstance(model, EvidenceBound):
        bits = split_bits(job, model, part, split, model.elbo_terms, "elbo")
        about = {"metric": f"bits_per_dim_elbo_{split}", "kind": "bound", "note": ELBO_NOTE}
        doubt = doubts and doubts.of_batches(part, split, model.elbo_terms, bits)
        found.append(mean_bits(bits, about | common, doubt or ""))
    return found


def mean_bits(bits: dict[str, Tensor], about: dict[str, Any], doubt: str = "") -> Measurement:
    """The mean of the summed parts, with the mean of each part; none if there is a `doubt`, which says why.

    The standard error is over images: they are independent, so if each has its own unbiased estimate, it includes the
    error of estimation.
    """
    total = torch.stack(list(bits.values())).sum(0)
    if not total.isfinite().all():
        bad = int((~total.isfinite()).sum())
        doubt = f"{bad} of {len(total)} images have no finite likelihood"
    if doubt:
        return Measurement(**about | {"value": None, "status": "failed", "note": doubt})
    parts = {name: float(values.mean()) for name, values in bits.items() if name}
    mean = mean_of(total.numpy())
    return Measurement(
        **about, value=mean.value, stderr=mean.stderr, interval=mean.interval, count=len(total), parts=parts
    )


def terms_of(model: Likelihood) -> Terms:
    """The terms of -log_prob if the model has them, else the whole under an empty name."""
    if isinstance(model, BoundTerms):
        return model.bound_terms
    return lambda images, given: {"": -model.log_prob(images, given)}


def protocol(job: Job, data: Dataset, split: str, part: Part) -> dict[str, Any]:
    """The settings shared by every model in the column; the model's are in its configuration and kind."""
    return {
        "family": "likelihood", "version": LIKELIHOOD, "unit": "bits per dimension",
        "convention": "-log2 p(x)/D + 7 for densities on [-1, 1), -log2 P(y)/D for discrete models",
        "dataset": data.digest, "split": split, "images": min(job.evaluation.likelihood_images, len(part)),
        "seed": job.evaluation.seed, "weights": "ema", "dtype": "float32",
    }  # fmt: skip


def note(model: Model) -> str:
    """What kind of likelihood the number is."""
    if model.discrete:
        words = {
            "exact": "exact log P(y)",
            "bound": "bound on log P(y) of the 256 levels",
            "estimate": "estimate of log P(y)",
        }[model.likelihood]
    elif model.likelihood == "bound":
        words = "bound on the density of dequantised images, hence on the discrete likelihood"
    elif model.likelihood == "estimate":
        words = "estimate of the density of uniformly dequantised images, which is a bound on the discrete likelihood"
    else:
        words = "exact density of uniformly dequantised images, hence a bound on the discrete likelihood"
    return f"{model.likelihood_note}: {words}" if model.likelihood_note else words


@torch.no_grad()
def split_bits(job: Job, model: Model, part: Part, split: str, terms: Terms, purpose: str) -> dict[str, Tensor]:
    """The terms in bits/dim, float64 (n,) each, for the chosen images of a split; the model runs in float32.

    The convention's 7 bits for a density are a separate term, `levels`, if there are other terms.
    """
    seed = job.evaluation.seed
    indices = chosen(len(part), job.evaluation.likelihood_images, seed, "likelihood", split)
    found: dict[str, list[Tensor]] = {}
    for start in range(0, len(indices), BLOCK):
        stop_if_requested()
        report("evaluate", start / len(indices), f"bits/dim {split}")
        batch = scored_block(job, model, part, split, indices, start)
        torch.manual_seed(derive_seed(job.seed, purpose, split, start))
        for name, bits in bits_of(model, batch, terms, purpose).items():
            found.setdefault(name, []).append(bits)
    return {name: torch.cat(blocks) for name, blocks in found.items()}


def bits_of(model: Model, batch: Batch, terms: Terms, purpose: str) -> dict[str, Tensor]:
    """The terms of a batch in bits/dim, float64 (B,) each, on the CPU."""
    with alive_at_calls(model.children()):
        parts = terms(batch.images, batch.given)
    for nats in parts.values():
        if nats.shape != (len(batch),):
            raise ValueError(
                f"{purpose} of {len(batch)} images must have shape ({len(batch)},), not {tuple(nats.shape)}"
            )
    bits = {name: bits_per_dim(-nats, model.data.dims, discrete=True).cpu() for name, nats in parts.items()}
    if not model.discrete:
        last = next(iter(bits)) if len(bits) == 1 else "levels"
        bits[last] = bits.get(last, torch.zeros(len(batch), dtype=torch.float64)) + math.log2(LEVELS / 2)
    return bits


def scored_block(job: Job, model: Model, part: Part, split: str, indices: np.ndarray, start: int) -> Batch:
    """The block of the chosen images of a split that begins at `start`, dequantised as it is scored."""
    seed = derive_seed(job.evaluation.seed, "likelihood", split, start)
    return block_of(job, model, part, indices[start : start + BLOCK], seed)


def block_of(job: Job, model: Model, part: Part, indices: np.ndarray, seed: int) -> Batch:
    """Images of a split on the job's device, as the model expects them, dequantised with `seed`."""
    device = torch.device(job.runtime.device)
    levels = torch.from_numpy(part.images[indices]).to(device)
    release(part.images)
    given = conditions_of(job.kind).given(part, indices, device)
    return Batch.of_levels(levels, given, model.discrete, seed)


@dataclass(frozen=True)
class Doubts:
    """Whether what a trained model returns can be a likelihood at all; each doubt is a sentence, "" for none."""

    job: Job
    model: Model
    data: Dataset
    samples: Samples | None = None

    @torch.no_grad()
    def of_batches(self, part: Part, split: str, terms: Terms, bits: dict[str, Tensor]) -> str:
        """That the first block's values, of `bits` as scored, depend on what is scored together."""
        job, seed = self.job, self.job.evaluation.seed
        indices = chosen(len(part), job.evaluation.likelihood_images, seed, "likelihood", split)
        batch = scored_block(job, self.model, part, split, indices, 0)

        def total(batch: Batch) -> Tensor:
            return torch.stack(list(bits_of(self.model, batch, terms, "likelihood").values())).sum(0)

        return dependence(total, batch, torch.stack(list(bits.values())).sum(0)[: len(batch)], seed)

    @torch.no_grad()
    def of_mass(self) -> str:
        """That an exact density has more mass than 1, found near the known law of the images or the model's samples."""
        job, data, shape = self.job, self.data, self.data.shape
        if self.model.likelihood != "exact":
            return ""
        laws: list[Law] = [Generator(data.law, shape, job.kind == "class")] if isinstance(data.law, Mixture) else []
        laws += [] if self.samples is None else [PixelByPixel.of(self.samples.images)]
        return excess_mass(self.log_prob, laws, job.evaluation.seed)

    def log_prob(self, levels: np.ndarray, labels: np.ndarray | None) -> Tensor:
        """log P, nats (B,), of uint8 levels (B, C, H, W) given labels, or the conditions of test images in turn."""
        indices, conditions, device = np.arange(len(levels)), conditions_of(self.job.kind), self.job.runtime.device
        if labels is None:
            given = conditions.given(self.data.test, indices % len(self.data.test), device)
        else:
            given = conditions.given(Part(levels, labels), indices, device)
        return log_prob_of_levels(self.model, torch.from_numpy(levels).to(device), given, self.job.evaluation.seed)
