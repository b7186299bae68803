"""The settings of the models that have the layers of a Gated PixelCNN."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import model_validator

from genbench import DataSpec, field
from genbench.optimization import OptimizerConfig

PAPER: Mapping[str, Any] = {
    "patch": 1, "waves": 0, "embedding": 0, "width": 128, "layers": 15, "kernel": 3, "first_kernel": 7, "head": 342,
    "batch_size": 16, "optimizer": "adamw", "learning_rate": 4e-4, "annealing": "constant", "ema_decay": 0.0,
}  # fmt: skip
"""A reading, since van den Oord et al. 2016 do not give their network for CIFAR-10: its layers, channels, kernels,
batch and hidden outputs (1,024, rounded up to a multiple of three) are those of the PixelCNN before it (van den Oord,
Kalchbrenner & Kavukcuoglu 2016, "Pixel recurrent neural networks"), AdamW stands for RMSProp, and its rate is ours."""


class GatedConfig(OptimizerConfig):
    """The order of sub-pixels, the gated layers and the optimizer; the defaults are `small`."""

    batch_size: int = field(8, "train", "images per update", ge=1)
    learning_rate: float = field(5e-3, "train", "peak learning rate of AdamW", gt=0)
    ema_decay: float = field(0.995, "train", "decay of the weight average", ge=0, lt=1)
    patch: int = field(2, "train", "side of the squares of pixels that are folded into groups", ge=1)
    embedding: int = field(
        4, "train", "learned features of a level, which the first layer sees; 0: the level itself, in [-1, 1]", ge=0
    )
    waves: int = field(6, "train", "sines and cosines of a level that its features share with others", ge=0, le=8)
    width: int = field(48, "train", "channels of each stack, divided among the groups", ge=1)
    layers: int = field(6, "train", "gated layers", ge=1)
    kernel: int = field(3, "train", "side of the convolutions before masking, odd", ge=3)
    first_kernel: int = field(7, "train", "side of the first layer's convolutions before masking, odd", ge=3)
    head: int = field(64, "train", "features of a sub-pixel that the output layer sees", ge=1)

    @model_validator(mode="after")
    def kernels_have_a_centre(self) -> Self:
        for name in ("kernel", "first_kernel"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name}: {getattr(self, name)} is even, and a kernel needs a central place")
        return self

    def check(self, data: DataSpec) -> None:
        groups = self.patch**2 * data.shape[0]
        if self.width < groups:
            raise ValueError(f"width: {self.width} channels cannot be divided among the {groups} sub-pixels of a place")
