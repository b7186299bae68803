"""The training images as batches on the device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from genbench.condition import Condition
from genbench.data.condition_plan import conditions_of
from genbench.data.dataset import Dataset
from genbench.model import Batch
from genbench.records.job import Job
from genbench.support import store
from genbench.support.seeds import derive_seed


class Feeder:
    """Batches of the training images on the device, mirrored with their conditions if `flip`, then dequantised.

    Order, mirroring and noise depend only on the seed and the number of images seen.
    """

    RESIDENT_BYTES = 4 * 2**30
    GATHERED = 64
    """Images read between two releases of a memory-mapped array: pages around each become resident with it."""

    def __init__(self, job: Job, data: Dataset, discrete: bool, device: torch.device, flip: bool = False) -> None:
        self.job, self.data, self.discrete, self.device, self.flip = job, data, discrete, device, flip
        self.images = torch.from_numpy(data.train.images)
        if device.type != "cpu" and self.images.numel() <= self.RESIDENT_BYTES:
            self.images = self.images.to(device)
            store.release(data.train.images)
        self.conditions = conditions_of(job.kind)

    def gather(self, indices: np.ndarray) -> Tensor:
        """The levels of some images, uint8 (n, C, H, W), on the device."""
        if self.images.device.type != "cpu":
            return self.images[torch.from_numpy(indices).to(self.device)]
        parts = []
        for some in np.array_split(indices, -(-len(indices) // self.GATHERED)):
            parts.append(self.images[torch.from_numpy(some)])
            store.release(self.data.train.images)
        return torch.cat(parts).to(self.device)

    def batch(self, seen: int, size: int, progress: float = 0.0) -> Batch:
        """The `size` images after the first `seen`, float32 (size, C, H, W), for an update at this `progress`."""
        indices = self.data.batch_at(self.job.seed, seen, size)
        levels, given = self.gather(indices), self.conditions.given(self.data.train, indices, self.device)
        if self.flip:
            mirrored = torch.from_numpy(flips(self.job.seed, seen, size)).to(self.device)
            levels = torch.where(mirrored[:, None, None, None], levels.flip(-1), levels)
            given = given.mirrored(mirrored) if isinstance(given, Condition) else given
        batch = Batch.of_levels(levels, given, self.discrete, derive_seed(self.job.seed, "dequantize", seen))
        return replace(batch, progress=progress)


def flips(seed: int, seen: int, size: int) -> np.ndarray:
    """Whether to mirror each of the `size` images after the first `seen`, bool (size,), with probability 1/2.

    A pure function of the seed and an image's place in the stream: Philox gives four numbers per value of its counter.
    """
    generator = np.random.Philox(key=derive_seed(seed, "flip"), counter=seen // 4)
    mirrored: np.ndarray = generator.random_raw(seen % 4 + size)[seen % 4 :] % 2 == 1
    return mirrored
