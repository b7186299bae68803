"""The images drawn so far, stored in parts, so that a crash loses only the current part."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genbench.records import checkpoint
from genbench.records.usage import Usage
from genbench.support import digests, store
from genbench.support.errors import CorruptData
from genbench.support.faults import fault

if TYPE_CHECKING:
    from genbench.metering.meter import Meter
    from genbench.model import Model
    from genbench.records.job import Job

log = logging.getLogger("genbench")


@dataclass(frozen=True)
class Shards:
    """Folders of images, each named by the index of its first image; `key` digests all that they depend on."""

    folder: Path
    key: str = ""

    @classmethod
    def of(cls, folder: Path, job: Job, model: Model) -> Shards:
        """The shards of a run folder, or of a point of a curve."""
        behind = {"samples": job.samples_key, "seed": job.seed, "weights": checkpoint.weights_digest(model)}
        return cls(folder / store.DRAWN, digests.settings_digest(behind))

    def restore(self, images: np.ndarray, meter: Meter) -> tuple[int, int]:
        """Restore stored images into `images` and their cost to the meter; returns (images, clamped values)."""
        done = 0
        state: dict[str, Any] = {"clamped": 0}
        while (part := self.folder / str(done)).exists():
            try:
                tensors, found = checkpoint.read(part)
            except CorruptData as error:
                log.warning("%s; drawing from this part on", error.message)
                break
            if found["key"] != self.key:
                break
            drawn, state = tensors["images"]["images"].numpy(), found
            images[done : done + len(drawn)] = drawn
            done += len(drawn)
        if done:
            usage = state.get("usage")  # parts of earlier versions have none
            meter.take_over(done, state["seconds"], state["joules"], Usage(**usage) if usage else None)
        return done, int(state["clamped"])

    def keep(self, images: np.ndarray, start: int, clamped: int, meter: Meter) -> None:
        """Store `images`, which begin at `start`, and the cost of all so far; call with the clock paused."""
        usage = meter.usage.model_dump() if meter.usage else None
        state = {
            "key": self.key, "clamped": clamped, "seconds": meter.seconds, "joules": meter.joules, "usage": usage,
        }  # fmt: skip
        checkpoint.write(self.folder / str(start), {"images": {"images": torch.from_numpy(images)}}, state)
        fault("sample.shard")


def clear(folder: Path) -> None:
    """Remove the parts, once all samples of a run folder are stored."""
    store.remove(folder / store.DRAWN)
