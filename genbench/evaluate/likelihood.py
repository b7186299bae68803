"""bits/dim on test and training images, for every model that has a likelihood, under one convention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genbench.capabilities import Likelihood
from genbench.data import Dataset, Part
from genbench.images import bits_per_dim, dequantize, to_float
from genbench.model import Model
from genbench.plan import Job
from genbench.progress import report, stop_if_requested
from genbench.records import Measurement
from genbench.seeds import derive_seed

BLOCK = 250
LIKELIHOOD = 1
"""Version of the convention; raise it when the same model would get another number."""


def likelihood_measurements(job: Job, model: Model, data: Dataset) -> list[Measurement]:
    """`bits_per_dim_test` and `_train`: means over the same seeded images for every model, with their errors."""
    found = []
    for split, part in (("test", data.test), ("train", data.train)):
        settings = protocol(job, data, split, part)
        common: dict[str, Any] = {
            "metric": f"bits_per_dim_{split}", "better": "lower", "kind": model.likelihood, "settings": settings,
        }  # fmt: skip
        if not isinstance(model, Likelihood):
            found.append(
                Measurement(**common, value=None, status="not_applicable", note="the model defines no likelihood")
            )
            continue
        bits = split_bits(job, model, part, split)
        report("evaluate", 0.5, f"bits/dim {split}")
        if not bits.isfinite().all():
            bad = int((~bits.isfinite()).sum())
            found.append(
                Measurement(
                    **common, value=None, status="failed", note=f"{bad} of {len(bits)} images have no finite likelihood"
                )
            )
            continue
        error = float(bits.std() / math.sqrt(len(bits)))
        found.append(Measurement(**common, value=float(bits.mean()), stderr=error, count=len(bits), note=note(model)))
    return found


def protocol(job: Job, data: Dataset, split: str, part: Part) -> dict[str, Any]:
    """What is the same for every model in the column; what is the model's own is in its configuration and kind."""
    return {
        "family": "likelihood", "version": LIKELIHOOD, "unit": "bits per dimension",
        "convention": "-log2 p(x)/D + 7 for densities on [-1, 1), -log2 P(y)/D for discrete models",
        "dataset": data.digest, "split": split, "images": min(job.evaluation.likelihood_images, len(part)),
        "seed": job.evaluation.seed, "weights": "ema", "dtype": "float32",
    }  # fmt: skip


def note(model: Model) -> str:
    """How to read the number."""
    if model.discrete:
        return {
            "exact": "exact log P(y)",
            "bound": "bound on log P(y) of the 256 levels",
            "estimate": "estimate of log P(y)",
        }[model.likelihood]
    return f"{model.likelihood} density of uniformly dequantised images, hence a bound on the discrete likelihood"


def chosen(part: Part, count: int, seed: int, split: str) -> np.ndarray:
    """Sorted indices of `count` images, or of all; the same for every model."""
    if count >= len(part):
        return np.arange(len(part))
    return np.sort(
        np.random.default_rng(derive_seed(seed, "likelihood", split)).choice(len(part), count, replace=False)
    )


@torch.inference_mode()
def split_bits(job: Job, model: Likelihood, part: Part, split: str) -> Tensor:
    """bits/dim of each chosen image of a split, float64 (n,); the model runs in float32."""
    assert isinstance(model, Model)
    device, seed = torch.device(job.runtime.device), job.evaluation.seed
    indices = chosen(part, job.evaluation.likelihood_images, seed, split)
    generator = torch.Generator(device)
    bits = []
    for start in range(0, len(indices), BLOCK):
        stop_if_requested()
        block = indices[start : start + BLOCK]
        levels = torch.from_numpy(part.images[block]).to(device)
        generator.manual_seed(derive_seed(seed, "likelihood", split, start))
        images = to_float(levels) if model.discrete else dequantize(levels, generator)
        labels = None
        if job.conditional and part.labels is not None:
            labels = torch.from_numpy(part.labels[block]).to(device)
        torch.manual_seed(derive_seed(job.seed, "log_prob", split, start))
        log_prob = model.log_prob(images, labels)
        if log_prob.shape != (len(block),):
            raise ValueError(
                f"log_prob of {len(block)} images must have shape ({len(block)},), it has {tuple(log_prob.shape)}"
            )
        bits.append(bits_per_dim(log_prob, model.data.dims, model.discrete).cpu())
    return torch.cat(bits)
