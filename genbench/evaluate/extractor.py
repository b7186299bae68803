"""A feature extractor: a network from images to features and, if it has classes, logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genbench.metrics.features import Features, require_finite
from genbench.support import store
from genbench.support.errors import BadInput, CorruptData

if TYPE_CHECKING:
    from torch import Tensor

CODE = 3
"""Version of the extraction; raise it when the same weights would give other features."""
BATCH, CPU_BATCH = 250, 64
"""Images per call: many keep a GPU busy, a few stay in a CPU's cache."""
SHIPPED_FOLDER = Path(__file__).parent.parent / "weights"
FeatureNetwork = Callable[["Tensor"], tuple["Tensor", "Tensor | None"]]
BatchProgress = Callable[[int, int], None]


class Extractor:
    """A network from uint8 images (B, C, H, W) on `device` to features (B, d) and logits (B, classes) or None.

    `identity` holds all that distinguishes it from others: the weights' digest, layer, resize rule. `batch` is the
    number of images per call, which changes features only by rounding. `about` has the facts of a classifier that was
    trained on this dataset, and `refusal` says why its features are not to be trusted; "" if they are.
    """

    most_controls = 500
    """Images of each spoilt set that the extractor is tried on, at most: a large network takes seconds for them."""
    about: Mapping[str, Any] = {}
    refusal = ""

    def __init__(
        self, name: str, network: FeatureNetwork, dim: int, num_classes: int, identity: Mapping[str, Any],
        device: str = "cpu", batch: int | None = None, about: Mapping[str, Any] | None = None, refusal: str = "",
    ) -> None:  # fmt: skip
        self.name, self.dim, self.num_classes = name, dim, num_classes
        self.about, self.refusal = about or {}, refusal
        self._network, self._identity, self._device = network, dict(identity), device
        self._batch = batch or (CPU_BATCH if device == "cpu" else BATCH)

    def describe(self) -> dict[str, Any]:
        """Plain data that is equal for two extractors only if they give the same features."""
        return {
            "name": self.name, "dim": self.dim, "num_classes": self.num_classes, "dtype": "float32", "code": CODE,
            **self._identity,
        }  # fmt: skip

    def features(self, images: np.ndarray, batch: int | None = None, progress: BatchProgress | None = None) -> Features:
        """Features of uint8 images (N, C, H, W), in batches, in full float32 precision, returned as float64.

        Raises BadInput for anything but uint8 images, and CorruptData naming the first image with non-finite features.
        """
        import torch

        from genbench.devices import exact_arithmetic

        if images.dtype != np.uint8 or images.ndim != 4:
            raise BadInput(f"{self.name} takes uint8 images (N, C, H, W), not {images.dtype} of shape {images.shape}")
        exact_arithmetic()
        batch = batch or self._batch
        features, logits = [], []
        with torch.inference_mode():
            for start in range(0, len(images), batch):
                block = torch.from_numpy(np.ascontiguousarray(images[start : start + batch])).to(self._device)
                found, classes = self._network(block)
                self._check(found, classes, len(block))
                features.append(require_finite(found.cpu().double(), f"{self.name}: features", start))
                if classes is not None:
                    logits.append(require_finite(classes.cpu().double(), f"{self.name}: logits", start))
                store.release(images)
                if progress is not None:
                    progress(start + len(block), len(images))
        empty = torch.empty(0, self.dim, dtype=torch.float64)
        return Features(torch.cat(features) if features else empty, torch.cat(logits) if logits else None)

    def _check(self, features: Tensor, logits: Tensor | None, count: int) -> None:
        for what, tensor, width in (("features", features, self.dim), ("logits", logits, self.num_classes)):
            shape = None if tensor is None else tuple(tensor.shape)
            expected = (count, width) if width else None
            if shape != expected or (tensor is not None and str(tensor.dtype) != "torch.float32"):
                dtype = "" if tensor is None else f"{tensor.dtype} "
                raise CorruptData(f"{self.name}: {what} are {dtype}{shape}, not float32 {expected}")


def stamped(identity: str) -> str:
    """What distinguishes an extractor from earlier ones of its name: its identity and the version of the extraction."""
    return f"{CODE} {identity}"
