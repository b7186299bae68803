"""The terms of a bound over the steps of its process, saved in the run folder so that a report needs no model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genbench.capabilities import BoundOverTime
from genbench.data.dataset import Dataset
from genbench.evaluate.likelihood import block_of
from genbench.images import bits_per_dim
from genbench.metrics.features import chosen
from genbench.model import Model
from genbench.records.job import Job
from genbench.support import store
from genbench.support.seeds import derive_seed

IMAGES = 64
FILE = "bound.json"
log = logging.getLogger("genbench")


@torch.no_grad()
def keep_bound_over_time(job: Job, model: Model | None, data: Dataset, folder: Path) -> None:
    """Write bound.json: at some times, the mean term over a few test images, in bits/dim, and its standard error.

    Nothing is written if the model has no such terms, or one is not finite.
    """
    found = _bound_over_time(job, model, data) if isinstance(model, BoundOverTime) else None
    if found is None:
        (folder / FILE).unlink(missing_ok=True)
    else:
        store.write_json(folder / FILE, found)


def _bound_over_time(job: Job, model: BoundOverTime, data: Dataset) -> dict[str, Any] | None:
    assert isinstance(model, Model)
    seed = job.evaluation.seed
    indices: np.ndarray = chosen(len(data.test), IMAGES, seed, "likelihood", "over time")
    batch = block_of(job, model, data.test, indices, derive_seed(seed, "over time"))
    torch.manual_seed(derive_seed(job.seed, "over time"))
    times, nats = model.bound_over_time(batch.images, batch.given)
    bits = bits_per_dim(-nats, model.data.dims, discrete=True).cpu()
    if not bits.isfinite().all():
        log.warning("%s: a term of the bound is not finite, so no %s is written", job.id, FILE)
        return None
    errors = bits.std(dim=1) / len(indices) ** 0.5
    means = bits.mean(1).tolist()
    return {"images": len(indices), "t": times.tolist(), "bits_per_dim": means, "stderr": errors.tolist()}
