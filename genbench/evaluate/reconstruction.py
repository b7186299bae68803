"""rFID, PSNR, SSIM and codebook usage on test images, for every model that encodes and decodes images."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genbench.capabilities import Codebook, Reconstruction
from genbench.data.dataset import Dataset
from genbench.evaluate.extractor import Extractor
from genbench.evaluate.features import job_extractors, reference_features
from genbench.evaluate.outputs import HINT, OnTestSplit
from genbench.extension.registry import Plugins
from genbench.images import misplaced, to_uint8
from genbench.metrics.frechet import fid_of_pairs
from genbench.metrics.reconstruction import (
    PSNR,
    RFID,
    SSIM,
    SSIM_DEVIATION,
    SSIM_WINDOW,
    codebook_metrics,
    psnr,
    ssim,
)
from genbench.metrics.value import Value
from genbench.model import Batch, Model
from genbench.records.job import Job
from genbench.records.record import Measurement
from genbench.support.errors import BadInput, Diverged
from genbench.support.progress import report


def reconstruction_measurements(job: Job, model: Model, data: Dataset, plugins: Plugins) -> list[Measurement]:
    """`rfid` in every extractor of the job, `psnr` and `ssim`; for a codebook also `code_use` and `code_perplexity`.

    All use all test images. Empty for a model that has neither `reconstruct` nor `codes`.
    """
    stage = FirstStage(job, model, data)
    found = rfid_measurements(stage, plugins)
    if isinstance(model, Reconstruction):
        found += stage.measure({"metric": PSNR}, lambda: {PSNR: psnr(data.test.images, stage.images)})
        settings = {"metric": SSIM, "window": SSIM_WINDOW, "deviation": SSIM_DEVIATION}
        found += stage.measure(settings, lambda: {SSIM: ssim(data.test.images, stage.images)})
    if isinstance(model, Codebook):
        size, errors = model.codebook_size(), stage.error_settings
        found += stage.measure({"metric": "codes", **errors}, lambda: codebook_metrics(stage.codes, size, **errors))
    return found


def rfid_measurements(stage: FirstStage, plugins: Plugins) -> list[Measurement]:
    """The FID between reconstructions, if any, and their originals, in every extractor of the job."""
    job, data, found = stage.job, stage.data, list[Measurement]()
    if not isinstance(stage.model, Reconstruction):
        return found
    for extractor in job_extractors(job, data, plugins):
        report("evaluate", 0.0, f"{RFID}, {extractor.name}")
        ours = {"allow_rank_deficient": job.evaluation.allow_rank_deficient, **stage.error_settings}

        def rfid(extractor: Extractor = extractor, ours: dict[str, Any] = ours) -> dict[str, Value]:
            reference = reference_features(extractor, data, "test", job.runtime.cache).features
            return {RFID: fid_of_pairs(extractor.features(stage.images).features, reference, **ours)}

        found += stage.measure({"metric": RFID, **ours, "extractor": extractor.describe()}, rfid)
    return found


class FirstStage(OnTestSplit):
    """A trained model that encodes and decodes images, with its lazily computed output for a job's test images."""

    family = "reconstruction"

    @cached_property
    def images(self) -> np.ndarray:
        """The reconstructions, uint8 (N, C, H, W)."""
        return self.of_all(reconstructed)

    @cached_property
    def codes(self) -> np.ndarray:
        """The codes, int64 (N, ...)."""
        return self.of_all(coded)


def reconstructed(model: Model, batch: Batch) -> Tensor:
    """The levels, uint8 (B, C, H, W), of a batch's reconstructions.

    Raises BadInput for a wrong shape or range, Diverged for NaN or infinity.
    """
    assert isinstance(model, Reconstruction)
    found = model.reconstruct(batch.images, batch.given)
    shape = tuple(batch.images.shape)
    if not isinstance(found, Tensor) or tuple(found.shape) != shape or not found.is_floating_point():
        raise BadInput(f"{model.name}: reconstruct() must return floats of shape {shape}", HINT)
    if not found.isfinite().all():
        raise Diverged("the reconstruction of a test image is not finite")
    if told := misplaced(found, to_uint8(batch.images)):
        raise BadInput(f"{model.name}: reconstruct(): {told}", HINT)
    return to_uint8(found)


def coded(model: Model, batch: Batch) -> Tensor:
    """The codes of a batch, int64 (B, ...). Raises BadInput if they are not codes of the model's codebook."""
    assert isinstance(model, Codebook)
    found, size, count = model.codes(batch.images, batch.given), model.codebook_size(), len(batch)
    if not isinstance(found, Tensor) or found.dtype != torch.int64 or found.shape[:1] != (count,) or not found.numel():
        raise BadInput(f"{model.name}: codes() of {count} images must return int64 of shape ({count}, ...)", HINT)
    if found.min() < 0 or found.max() >= size:
        raise BadInput(f"{model.name}: codes() must return numbers from 0 to codebook_size() - 1 = {size - 1}", HINT)
    return found
