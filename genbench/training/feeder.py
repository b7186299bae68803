"""The training images as batches on the device."""

from __future__ import annotations

import torch

from genbench.data.condition_plan import conditions_of
from genbench.data.dataset import Dataset
from genbench.model import Batch
from genbench.records.job import Job
from genbench.support import store
from genbench.support.seeds import derive_seed


class Feeder:
    """Batches of the training images on the device, dequantised, in an order that depends on seed and images seen."""

    RESIDENT_BYTES = 4 * 2**30

    def __init__(self, job: Job, data: Dataset, discrete: bool, device: torch.device) -> None:
        self.job, self.data, self.discrete, self.device = job, data, discrete, device
        self.images = torch.from_numpy(data.train.images)
        if device.type != "cpu" and self.images.numel() <= self.RESIDENT_BYTES:
            self.images = self.images.to(device)
            store.release(data.train.images)
        self.conditions = conditions_of(job.kind)

    def batch(self, seen: int, size: int) -> Batch:
        """The `size` images after the first `seen`, float32 (size, C, H, W)."""
        indices = self.data.batch_at(self.job.seed, seen, size)
        levels = self.images[torch.from_numpy(indices).to(self.images.device)].to(self.device)
        if self.images.device.type == "cpu":
            store.release(self.data.train.images)
        given = self.conditions.given(self.data.train, indices, self.device)
        return Batch.of_levels(levels, given, self.discrete, derive_seed(self.job.seed, "dequantize", seen))
