"""The extractors of a job, and the features of a dataset's own images, kept in the cache under what they depend on."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from genbench import store
from genbench.errors import CorruptData
from genbench.evaluate.extractors import Extractor, Features, extractor, require_finite

if TYPE_CHECKING:
    from genbench.data import Dataset
    from genbench.plan import Job
    from genbench.plugins import Plugins


def job_extractors(job: Job, data: Dataset, plugins: Plugins) -> list[Extractor]:
    """The job's extractors on its device. Raises BadInput, EnvironmentProblem or CorruptData, naming the weights."""
    registered = plugins.registered("register_extractors")
    return [extractor(name, data, job.runtime, registered) for name in job.evaluation.extractors]


def reference_features(own: Extractor, data: Dataset, split: str, cache: Path) -> Features:
    """Features of all images of a split ("train" or "test"), from the cache where they are there.

    The key holds the dataset's digest, all that identifies the extractor, and torch's version, so nothing else can be
    taken for them; a file that is not what was written is made anew.
    """
    behind = {"dataset": data.digest, "split": split, "extractor": own.describe(), "torch": version("torch")}
    key = store.settings_digest(behind)
    file = cache / "features" / f"{own.name}-{data.name}-{split}-{key[:16]}.safetensors"
    if not is_whole(file):
        images = data.train.images if split == "train" else data.test.images
        found = own.features(images)
        tensors = {"features": found.features} | ({} if found.logits is None else {"logits": found.logits})
        store.write_tensors(file, {name: tensor.to(torch.float32) for name, tensor in tensors.items()})
        store.write_json(file.with_suffix(".json"), {**behind, "sha256": store.file_digest(file)})
    stored = {name: require_finite(tensor.double(), str(file)) for name, tensor in store.read_tensors(file).items()}
    return Features(stored["features"], stored.get("logits"))


def is_whole(file: Path) -> bool:
    """Whether a cached file is there with the digest that the JSON file beside it gives."""
    about = file.with_suffix(".json")
    if not file.exists() or not about.exists():
        return False
    try:
        return bool(store.read_json(about)["sha256"] == store.file_digest(file))
    except (CorruptData, KeyError, TypeError):
        return False
