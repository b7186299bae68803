"""The reference rows, `real` (held-out images), `copies` (training images) and `noise`, and how they are scored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from genbench.data.dataset import Dataset, Part
from genbench.evaluate.copies import digests_of
from genbench.evaluate.features import job_extractors, reference_features
from genbench.evaluate.held_out import held_out, held_out_first
from genbench.evaluate.samples import sample_measurements, score
from genbench.extension.registry import Plugins
from genbench.metrics import metrics_against
from genbench.records.job import Job
from genbench.records.record import Measurement
from genbench.records.samples import Samples
from genbench.running.answers import answered
from genbench.support.seeds import derive_seed
from genbench.support.store import release


def reference_samples(job: Job, data: Dataset) -> Samples:
    """The images of a reference row: uniform levels for `noise`, else training images; for `real`, held-out ones."""
    if job.kind is not None:
        return answered(job, data)
    if job.model == "noise":
        generator = np.random.default_rng(derive_seed(job.seed, "noise"))
        return Samples(generator.integers(0, 256, (job.samples, *data.shape), dtype=np.uint8))
    if job.model == "copies":
        return copied_samples(data.train, job.samples, job.evaluation.seed)
    return images_of(data.train, real_indices(job, data))


def real_indices(job: Job, data: Dataset) -> np.ndarray:
    """Which training images the row `real` consists of."""
    indices: np.ndarray = held_out_first(data, job.evaluation.seed)[0][: job.samples]
    return indices


def copied_samples(part: Part, count: int, seed: int) -> Samples:
    """`count` images of a split in a seeded order; none twice as long as there are others."""
    order = np.random.default_rng(derive_seed(seed, "copies row")).permutation(len(part))
    seen: set[bytes] = set()
    first: list[int] = []
    again: list[int] = []
    for index in order:
        (digest,) = digests_of(part.images[index : index + 1])
        (again if digest in seen else first).append(index)
        seen.add(digest)
        if len(first) == count:
            break
    return images_of(part, np.array([*first, *again][:count]))


def compared_images(job: Job, samples: Samples, data: Dataset) -> dict[str, np.ndarray]:
    """What is compared with each split: the samples; but, for `real`, test images with training images."""
    against_train = real_samples(data.test, job.samples, job.evaluation.seed) if job.is_floor else samples
    return {"train": against_train.images, "test": samples.images}


def real_samples(part: Part, count: int, seed: int) -> Samples:
    """`count` images of a split in a seeded order, or all if it has fewer."""
    return images_of(part, real_order(part, count, seed))


def real_order(part: Part, count: int, seed: int) -> np.ndarray:
    """Which images of a split those are."""
    return np.random.default_rng(derive_seed(seed, "real row")).permutation(len(part))[:count]


def images_of(part: Part, indices: np.ndarray) -> Samples:
    """Some images of a split."""
    images = np.asarray(part.images[indices])
    release(part.images)
    return Samples(images)


def reference_measurements(job: Job, samples: Samples, data: Dataset, plugins: Plugins) -> list[Measurement]:
    """A reference row's measurements; against the training split, `real` consists of test images.

    Those of `real` are of labelled images, if there are labels.
    """
    if not job.is_floor:
        return sample_measurements(job, samples, data, plugins)
    if data.train.labels is not None:
        samples = replace(samples, labels=data.train.labels[real_indices(job, data)])
    found = sample_measurements(job, samples, data, plugins)
    tested = real_order(data.test, job.samples, job.evaluation.seed)
    for extractor in job_extractors(job, data, plugins):
        if extractor.about:
            found = [unseen_only(m, extractor.name, len(samples), len(held_out(data))) for m in found]
        train, test = (
            reference_features(extractor, data, split, job.runtime.cache, job.evaluation) for split in ("train", "test")
        )
        measured = score(job, data, extractor, test.take(tested), {"train": train}, test)
        found += [m for m in measured if m.metric in metrics_against("train")]
    return found


def unseen_only(measured: Measurement, extractor: str, count: int, unseen: int) -> Measurement:
    """The measurement, without its value if it is in the features of a classifier that was trained on some images."""
    if count <= unseen or measured.settings.get("extractor", {}).get("name") != extractor:
        return measured
    note = f"{extractor} was trained on all but {unseen:,} training images: use --samples {unseen} for a floor"
    return measured.model_copy(
        update={"value": None, "stderr": None, "interval": None, "deviation": None, "status": "not_enough_samples",
                "note": note}
    )  # fmt: skip
