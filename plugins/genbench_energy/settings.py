"""The settings of `ebm` and `jem`, and those that they share."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import PositiveInt, model_validator

from genbench import DataSpec, field
from genbench.optimization import OptimizerConfig
from genbench.optimizers import Betas

TINY: Mapping[str, Any] = {
    "patch": 2, "widths": (8,), "memory": 32, "batch_size": 16, "steps": 2, "sample_steps": 4,
}  # fmt: skip
"""The preset `tiny` of both."""


class EnergyConfig(OptimizerConfig):
    """The network, the chains and the memory that they start from, the loss; widths are channels, images in [-1, 1]."""

    batch_size: int = field(64, "train", "images per update, and chains", ge=1)
    optimizer: Literal["adamw", "muon"] = field(
        "adamw", "train", "AdamW for all weights, or Muon for matrices that images pass through, convolutions too"
    )
    learning_rate: float = field(5e-4, "train", "peak learning rate of AdamW", gt=0)
    betas: Betas = field((0.0, 0.999), "train", "AdamW's decay rates")
    ema_decay: float = field(
        0.99, "train", "decay of the weight average, warmed up as min(decay, (1+t)/(10+t))", ge=0, lt=1
    )
    gradient_clip: float = field(0.0, "train", "bound on the norm of the loss's gradient; 0 for none", ge=0)

    penalty: float = field(0.1, "train", "weight of the squared energies", ge=0)
    data_noise: float = field(0.0, "train", "deviation of the noise that training images are given", ge=0)

    memory: int = field(1000, "train", "images that are remembered for chains to go on from", ge=1)
    restarts: float = field(0.05, "train", "share of the chains of an update that begin anew from noise", ge=0, le=1)
    steps: int = field(10, "train", "Langevin steps of an update", ge=1)
    step_size: float = field(20.0, "train", "what the slope of the energy is multiplied by in a Langevin step", gt=0)
    steepest: float = field(0.01, "train", "bound on the slope in each pixel; 0 for none", ge=0)
    noise: float = field(0.01, "train", "deviation of the noise of a Langevin step", ge=0)
    bounded: bool = field(True, "train", "keep chains in [-1, 1]")
    sample_steps: int = field(
        0, "sample", "Langevin steps from noise to a sample; 0: as many as a chain in training lives, steps / restarts",
        ge=0,
    )  # fmt: skip

    patch: int = field(4, "train", "side of the squares of pixels that are folded into channels", ge=1)
    stem: int = field(0, "train", "channels of the first convolution; 0: the first of the widths", ge=0)
    widths: tuple[PositiveInt, ...] = field((32, 64), "train", "channels of each level, finest first", min_length=1)
    blocks: int = field(1, "train", "residual blocks of each level", ge=1)
    activation: Literal["silu", "leaky_relu"] = field("silu", "train", "leaky_relu has slope 0.2 below zero")

    @model_validator(mode="after")
    def chains_end(self) -> Self:
        if self.memory < self.batch_size:
            raise ValueError(f"memory: {self.memory} images are fewer than batch_size, {self.batch_size} chains")
        if not self.restarts and not self.sample_steps:
            raise ValueError("sample_steps: set it too, since without restarts a chain lives forever")
        return self

    @property
    def length(self) -> int:
        """Langevin steps of a sample."""
        return self.sample_steps or round(self.steps / self.restarts)


class EBMConfig(EnergyConfig):
    """The settings of `ebm`; the defaults are the preset `small`."""

    spectral_norm: bool = field(True, "train", "divide the convolutions by their spectral norm")
    dropout: float = field(0.0, "train", "dropout in the residual blocks, in chains of training too", ge=0, lt=1)


class JEMConfig(EnergyConfig):
    """The settings of `jem`; the defaults are the preset `small`."""

    penalty: float = field(1.0, "train", "weight of the squared energies", ge=0)
    chains_of: Literal["images", "classes"] = field(
        "classes", "train", "whether chains of training follow log p(x), or log p(x, y) of a class each"
    )

    def check(self, data: DataSpec) -> None:
        if not data.num_classes:
            raise ValueError("jem learns p(x) and p(y | x) with one network and needs classes: add --conditional")
