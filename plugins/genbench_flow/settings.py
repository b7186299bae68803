"""The settings of `flow`."""

from typing import Literal, Self

from pydantic import model_validator

from genbench import Config, DataSpec, field
from genbench.nets import latent_size
from genbench.optimizers import Betas

LEVELS, LARGEST = 3, 8
"""Halvings where nothing else is said, and pixels a side of the coarsest grid, at most, as it is drawn one by one."""


class FlowConfig(Config):
    """The front, the levels with their couplings, dequantisation and the optimizer; the defaults are `small`.

    Levels are numbered from the finest; on each a lattice keeps one pixel of four, `conv` half of the channels.
    """

    batch_size: int = field(32, "train", "images per update", ge=1)
    learning_rate: float = field(5e-3, "train", "peak learning rate (AdamW)", gt=0)
    annealing: Literal["cosine", "constant"] = field(
        "cosine", "train", "the learning rate after its warm-up: half a cosine down, or constant, as published"
    )
    warmup: int = field(0, "train", "steps over which the learning rate rises; 0: the first 2 % of the budget", ge=0)
    betas: Betas = field((0.9, 0.99), "train", "AdamW's decay rates")
    dequantization: Literal["uniform", "variational"] = field(
        "uniform", "train", "noise that makes levels continuous: uniform, or learned, for a bound (Ho et al. 2019)"
    )
    front: Literal["auto", "logit", "linear"] = field(
        "auto",
        "train",
        "first transform of the pixels: a logit, or only a factor, as in Glow; auto: a logit where more than a fifth "
        "of the first training images' values are black or white, or where no box bounds what is drawn: with affine "
        "couplings, and with mixing = conv; and a factor otherwise",
    )
    mixing: Literal["lattice", "conv"] = field(
        "lattice", "train", "what couplings split: sub-lattices of pixels, coarse to fine, or Glow's mixed channels"
    )
    coupling: Literal["auto", "affine", "spline", "logistic"] = field(
        "auto",
        "train",
        "elementwise transform of a coupling; logistic: a logistic's distribution function around a linear map of the "
        "neighbours, then a spline; auto: that of pixels in colour on the lattice, a spline otherwise",
    )
    levels: int = field(
        0,
        "train",
        "most halvings of the resolution, of sides while they are even; 0: three, and on the lattice as many more as "
        "leave no side above 8, for which odd sides are padded",
        ge=0,
    )
    steps: int = field(1, "train", "autoregressions of the coarsest pixels (lattice), or steps per level (conv)", ge=1)
    width: int = field(
        32, "train", "channels of a network; on the lattice, those of the finest level, doubled below it", ge=1
    )
    blocks: int = field(2, "train", "residual convolutions of a network; on the lattice, doubled likewise", ge=0)
    bins: int = field(8, "train", "bins of a spline", ge=2, le=100)
    alpha: float = field(
        1e-3,
        "train",
        "margin that keeps a logit finite, where there is one",
        gt=0,
        lt=0.5,
        only_with={"front": ["auto", "logit"]},
    )
    temperature: float = field(
        1.0, "sample", "scale of the latents drawn, on the lattice the finer pixels' only; 1 is the density", gt=0
    )

    @model_validator(mode="after")
    def logistics_have_a_box(self) -> Self:
        if (self.mixing, self.coupling) == ("conv", "logistic"):
            raise ValueError("coupling: logistic needs mixing = lattice, where every value is transformed in its box")
        return self

    def check(self, data: DataSpec) -> None:
        if data.condition and (self.mixing, self.dequantization) != ("lattice", "uniform"):
            raise ValueError(f"conditions of kind {data.kind} need mixing = lattice and dequantization = uniform")

    def unused(self, name: str) -> str:
        if name == "bins" and (self.coupling, self.dequantization) == ("affine", "uniform"):
            return "coupling = affine"
        if name == "blocks" and (self.mixing, self.dequantization) == ("conv", "uniform"):
            return "mixing = conv"
        return super().unused(name)

    def boxed(self, data: DataSpec) -> bool:
        """Whether every value is transformed within the front's box."""
        return self.mixing == "lattice" and self.transform_of(data) != "affine"

    def front_of(self, data: DataSpec) -> Literal["auto", "logit", "linear"]:
        """The front: where no box bounds what is drawn, only a logit keeps the density within [-1, 1)."""
        return self.front if self.boxed(data) or self.front != "auto" else "logit"

    def halvings_of(self, data: DataSpec) -> int:
        """How often the sides of an image are halved."""
        (height, width), done = data.shape[1:], 0
        pads = not self.levels and self.boxed(data)
        while (done < (self.levels or LEVELS) and not (height | width) % 2) or (pads and max(height, width) > LARGEST):
            (height, width), done = latent_size((height, width), 2), done + 1
        return done

    def padding_of(self, data: DataSpec) -> tuple[int, int]:
        """Rows and columns below and to the right of an image, so that its sides can be halved as often."""
        height, width = data.shape[1:]
        whole = 2 ** self.halvings_of(data)
        return -height % whole, -width % whole

    def transform_of(self, data: DataSpec) -> Literal["affine", "spline", "logistic"]:
        """The transform of a coupling: a logistic is for values near their neighbours', which ink on paper has not."""
        if self.coupling == "auto":
            return "logistic" if self.mixing == "lattice" and data.shape[0] > 1 else "spline"
        return self.coupling
