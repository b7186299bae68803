"""What a trained model makes of all test images, and measurements of that."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from genbench.data.dataset import Dataset
from genbench.evaluate.likelihood import BLOCK, block_of
from genbench.evaluate.parts import once
from genbench.metrics import metric_named
from genbench.metrics.value import Value
from genbench.model import Batch, Model
from genbench.records.checkpoint import weights_digest
from genbench.records.job import Job
from genbench.records.protocol import versions
from genbench.records.record import Measurement
from genbench.support.progress import stop_if_requested
from genbench.support.seeds import derive_seed

HINT = "`genbench check-plugin` names the line"


@dataclass
class OnTestSplit(ABC):
    """A trained model and the test images of its job; measurements of it are of the `family`."""

    family: ClassVar[str]
    job: Job
    model: Model
    data: Dataset

    @property
    def error_settings(self) -> dict[str, int]:
        return {"error_splits": self.job.evaluation.error_splits, "seed": self.job.evaluation.seed}

    @cached_property
    def weights(self) -> str:
        return weights_digest(self.model)

    @torch.no_grad()
    def of_all(self, function: Callable[[Model, Batch], Tensor]) -> np.ndarray:
        """The function's results (N, ...) on all test images, in seeded blocks; the model runs in float32."""
        job, test, found = self.job, self.data.test, []
        for start in range(0, len(test), BLOCK):
            stop_if_requested()
            indices = np.arange(start, min(start + BLOCK, len(test)))
            batch = block_of(job, self.model, test, indices, derive_seed(job.evaluation.seed, self.family, start))
            torch.manual_seed(derive_seed(job.seed, self.family, start))
            found.append(function(self.model, batch).cpu().numpy())
        return np.concatenate(found)

    def measure(self, settings: dict[str, Any], values: Callable[[], Mapping[str, Value]]) -> list[Measurement]:
        """The values by metric as measurements under a protocol of these settings, or those of an earlier attempt."""
        count = len(self.data.test)
        common = {
            "family": self.family, "dataset": self.data.digest, "split": "test", "images": count,
            "weights": "ema", "versions": versions(), **settings,
        }  # fmt: skip

        def measured() -> list[Measurement]:
            return [
                Measurement(
                    metric=name, better=metric_named(name).better, count=count, settings=common, **asdict(value)
                )
                for name, value in values().items()
            ]

        return once(self.job, {"protocol": common, "model": self.weights}, measured)
