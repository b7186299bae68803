"""The reference rows, `real` (held-out images, the floor) and `noise` (the ceiling), and how they are scored."""

from __future__ import annotations

import numpy as np

from genbench.data.dataset import Dataset, Part
from genbench.evaluate.features import job_extractors, reference_features
from genbench.evaluate.samples import sample_measurements, score
from genbench.extension.registry import Plugins
from genbench.metrics import metrics_against
from genbench.records.job import Job
from genbench.records.record import Measurement
from genbench.records.samples import Samples
from genbench.support.seeds import derive_seed
from genbench.support.store import release


def reference_samples(job: Job, data: Dataset) -> Samples:
    """The images of a reference row: seeded training images for `real`, uniform levels for `noise`."""
    if job.model == "noise":
        generator = np.random.default_rng(derive_seed(job.seed, "noise"))
        return Samples(generator.integers(0, 256, (job.samples, *data.shape), dtype=np.uint8))
    return real_samples(data.train, job.samples, job.evaluation.seed)


def real_samples(part: Part, count: int, seed: int) -> Samples:
    """`count` images of a split in a seeded order, or all if it has fewer."""
    indices = np.random.default_rng(derive_seed(seed, "real row")).permutation(len(part))[:count]
    images = np.asarray(part.images[indices])
    release(part.images)
    return Samples(images)


def reference_measurements(job: Job, samples: Samples, data: Dataset, plugins: Plugins) -> list[Measurement]:
    """A reference row's measurements; against the training split, `real` consists of test images."""
    found = sample_measurements(job, samples, data, plugins)
    if job.model != "real":
        return found
    held_out = real_samples(data.test, job.samples, job.evaluation.seed)
    for extractor in job_extractors(job, data, plugins):
        train, test = (
            reference_features(extractor, data, split, job.runtime.cache, job.evaluation) for split in ("train", "test")
        )
        measured = score(job, data, extractor, extractor.features(held_out.images), {"train": train}, test)
        found += [m for m in measured if m.metric in metrics_against("train")]
    return found
