"""The extractors of a job, and the features of a dataset's images, cached by everything they depend on."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genbench.evaluate.extractor import BatchProgress, Extractor
from genbench.evaluate.extractors import extractor
from genbench.metrics.features import Features, chosen, require_finite
from genbench.records.protocol import EvaluationSettings
from genbench.support import digests, store
from genbench.support.errors import CorruptData
from genbench.support.progress import report
from genbench.support.sealed import check_digest, read_sealed, write_sealed

if TYPE_CHECKING:
    from genbench.data.dataset import Dataset
    from genbench.extension.registry import Plugins
    from genbench.records.job import Job


PIECE = 1000
PIXELS = "checked"
"""In the key of cached features: those without it may be of pixels that nobody had compared with their digest."""


def job_extractors(job: Job, data: Dataset, plugins: Plugins) -> list[Extractor]:
    """The job's extractors on its device. Raises BadInput, EnvironmentProblem or CorruptData, naming the weights."""
    registered = plugins.registered("register_extractors")
    return [extractor(name, data, job.runtime, registered) for name in job.evaluation.extractors]


def reference_features(
    own: Extractor, data: Dataset, split: str, cache: Path, settings: EvaluationSettings | None = None
) -> Features:
    """Features of all images of a split ("train" or "test"), from the cache if they are there.

    Of the training images, only those that the settings choose. The key covers the dataset's digest, all that
    identifies the extractor, and torch's version, so that no other features match; a file that has changed since it was
    written is made again.
    """
    part = data.train if split == "train" else data.test
    behind: dict[str, Any] = {
        "dataset": data.digest,
        "split": split,
        "pixels": PIXELS,
        "extractor": own.describe(),
        "torch": version("torch"),
    }
    few = None
    if split == "train" and settings and settings.max_train_reference < len(part):
        few = chosen(len(part), settings.max_train_reference, settings.seed, "train reference")
        behind |= {"images": settings.max_train_reference, "seed": settings.seed}
    key = digests.settings_digest(behind)
    file = cache / "features" / f"{own.name}-{data.name}-{split}-{key[:16]}.safetensors"
    if not is_whole(file):
        told = told_of(own, f"{split} images")
        found = own.features(part.images, progress=told) if few is None else _of_chosen(own, part.images, few, told)
        tensors = {"features": found.features} | ({} if found.logits is None else {"logits": found.logits})
        store.write_tensors(file, {name: tensor.to(torch.float32) for name, tensor in tensors.items()})
        write_sealed(file.with_suffix(".json"), {**behind, "sha256": digests.file_digest(file)})
    stored = {name: require_finite(tensor.double(), str(file)) for name, tensor in store.read_tensors(file).items()}
    return Features(stored["features"], stored.get("logits"))


def told_of(own: Extractor, what: str) -> BatchProgress:
    """What reports how many of some images an extractor has seen."""
    return lambda done, total: report("evaluate", done / total, f"features of the {what}, {own.name}")


def _of_chosen(own: Extractor, images: np.ndarray, indices: np.ndarray, told: BatchProgress) -> Features:
    """Features of some of the images, which are read PIECE at a time."""
    pieces = []
    for start in range(0, len(indices), PIECE):
        pieces.append(own.features(images[indices[start : start + PIECE]]))
        store.release(images)
        told(min(start + PIECE, len(indices)), len(indices))
    logits = [piece.logits for piece in pieces if piece.logits is not None]
    return Features(torch.cat([piece.features for piece in pieces]), torch.cat(logits) if logits else None)


def is_whole(file: Path) -> bool:
    """Whether a cached file exists and has the digest that the JSON file beside it gives."""
    try:
        check_digest(file, read_sealed(file.with_suffix(".json"), "")["sha256"], "", "")
    except CorruptData:
        return False
    return True
