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

RESIDUAL = {"network": ["residual"]}


class EnergyConfig(OptimizerConfig):
    """The network, the chains and the memory that they start from, the loss; widths are channels, images in [-1, 1]."""

    batch_size: int = field(64, "train", "images per update, and chains", ge=1)
    learning_rate: float = field(1e-3, "train", "peak learning rate of AdamW", gt=0)
    matrix_learning_rate: float = field(
        0.005, "train", "peak learning rate of Muon", gt=0, only_with={"optimizer": ["muon"]}
    )
    betas: Betas = field((0.0, 0.99), "train", "AdamW's decay rates")
    ema_decay: float = field(
        0.99, "train", "decay of the weight average, warmed up as min(decay, (1+t)/(10+t))", ge=0, lt=1
    )
    gradient_clip: float = field(0.0, "train", "bound on the norm of the loss's gradient; 0 for none", ge=0)

    penalty: float = field(0.1, "train", "weight of the squared energies", ge=0)
    data_noise: float = field(0.0, "train", "deviation of the noise that training images are given", ge=0)

    start: Literal["gaussian", "noise"] = field(
        "gaussian", "train", "what chains begin with: a Gaussian fitted to training images, of the class, or noise"
    )
    memory: int = field(4000, "train", "images that are remembered for chains to go on from", ge=1)
    restarts: float = field(0.2, "train", "share of the chains of an update that begin anew", ge=0, le=1)
    steps: int = field(10, "train", "Langevin steps of an update", ge=1)
    step_size: float = field(100.0, "train", "what the slope of the energy is multiplied by in a Langevin step", gt=0)
    steepest: float = field(0.004, "train", "bound on the slope in each pixel; 0 for none", ge=0)
    noise: float = field(0.01, "train", "deviation of the noise of a Langevin step", ge=0)
    bounded: bool = field(True, "train", "keep chains in [-1, 1]")
    sample_steps: int = field(
        0, "sample", "Langevin steps of a sample; 0: as many as a chain in training lives, steps / restarts",
        ge=0,
    )  # fmt: skip

    patch: int = field(2, "train", "side of the squares of pixels that are folded into channels", ge=1)
    widths: tuple[PositiveInt, ...] = field(
        (32, 64, 128), "train", "channels of each level, finest first", min_length=1
    )
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

    network: Literal["strided", "residual"] = field(
        "strided", "train", "convolutions of stride 2, or residual blocks, as published"
    )
    stem: int = field(
        0, "train", "channels of the first convolution; 0: the first of the widths", ge=0, only_with=RESIDUAL
    )
    blocks: int = field(1, "train", "residual blocks of each level", ge=1, only_with=RESIDUAL)
    spectral_norm: bool = field(True, "train", "divide the convolutions by their spectral norm", only_with=RESIDUAL)
    dropout: float = field(
        0.0, "train", "dropout in the blocks, in chains of training too", ge=0, lt=1, only_with=RESIDUAL
    )


class JEMConfig(EnergyConfig):
    """The settings of `jem`; the defaults are the preset `small`."""

    optimizer: Literal["adamw", "muon"] = field(
        "adamw", "train", "AdamW for all weights, or Muon for matrices that images pass through, convolutions too"
    )
    learning_rate: float = field(2e-3, "train", "peak learning rate of AdamW", gt=0)
    betas: Betas = field((0.9, 0.999), "train", "AdamW's decay rates")
    class_weight: float = field(
        10.0, "train", "weight of the cross entropy of the labels at first; it falls linearly to 1, as published", ge=0
    )
    restarts: float = field(1.0, "train", "share of the chains of an update that begin anew", ge=0, le=1)
    step_size: float = field(1.0, "train", "what the slope of the energy is multiplied by in a Langevin step", gt=0)
    steepest: float = field(0.0, "train", "bound on the slope in each pixel; 0 for none", ge=0)
    patch: int = field(4, "train", "side of the squares of pixels that are folded into channels", ge=1)
    stem: int = field(0, "train", "channels of the first convolution; 0: the first of the widths", ge=0)
    widths: tuple[PositiveInt, ...] = field((32, 64), "train", "channels of each level, finest first", min_length=1)
    blocks: int = field(1, "train", "residual blocks of each level", ge=1)
    chains_of: Literal["images", "classes"] = field(
        "classes", "train", "whether chains of training follow log p(x), or log p(x, y) of a class each"
    )

    def check(self, data: DataSpec) -> None:
        if not data.num_classes:
            raise ValueError("jem learns p(x) and p(y | x) with one network and needs classes: add --conditional")
