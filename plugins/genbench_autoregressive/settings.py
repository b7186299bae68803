"""The settings of the models that have the layers of a Gated PixelCNN."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import model_validator
from torch import nn

from genbench import Config, DataSpec, Muon, Phase, adamw, field
from genbench.embeddings import LabelEmbedding
from genbench.schedules import annealed


class GatedConfig(Config):
    """The order of sub-pixels, the gated layers and the optimizer; the defaults are `small`."""

    batch_size: int = field(16, "train", "images per update", ge=1)
    learning_rate: float = field(5e-3, "train", "peak learning rate (AdamW)", gt=0)
    ema_decay: float = field(0.995, "train", "decay of the weight average", ge=0, lt=1)
    optimizer: Literal["adamw", "muon"] = field(
        "muon", "train", "AdamW for all weights, or Muon for the matrices of the gated layers"
    )
    matrix_learning_rate: float = field(
        0.01, "train", "peak learning rate of Muon", gt=0, only_with={"optimizer": ["muon"]}
    )
    annealing: Literal["cosine", "constant"] = field(
        "cosine", "train", "the learning rate after its warm-up: half a cosine down, or constant"
    )
    patch: int = field(2, "train", "side of the squares of pixels that are folded into groups", ge=1)
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

    def phase(self, model: nn.Module, outputs: Sequence[nn.Module]) -> Phase:
        """The phase that trains `model`; Muon leaves alone `outputs` and what embeds labels, besides vectors."""
        if self.optimizer == "adamw":
            optimizer = adamw(model, self.learning_rate)
        else:
            apart = [*outputs, *(m for m in model.modules() if isinstance(m, LabelEmbedding))]
            others = [p for module in apart for p in module.parameters()]
            optimizer = Muon(model, self.learning_rate, self.matrix_learning_rate, others=others)
        return Phase("train", model, optimizer, schedule=annealed(self.annealing, 0), clip=1.0)
