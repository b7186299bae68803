"""The settings of `score`, and its presets."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import PositiveInt, model_validator

from genbench import DataSpec, field
from genbench.nets import UNet, UNetSpec
from genbench.optimization import OptimizerConfig
from genbench_score.levels import (
    consistent_noise,
    consistent_rate,
    geometric,
    largest_distance,
    logit_normal,
    number_of_levels,
)
from genbench_score.refinenet import RefineNet, RefineNetSpec

UNET, REFINENET = {"network": ["unet"]}, {"network": ["refinenet"]}


class ScoreConfig(OptimizerConfig):
    """The noise levels, the network and the sampler; the defaults are the preset `small`.

    That is NCSNv2, whose network is also told the level. Levels and steps are those of pixels in [0, 1], as published.
    """

    sigma_begin: float = field(
        0.0, "train", "sigma_1, the largest noise; 0: the largest distance that two images can have", ge=0
    )
    sigma_end: float = field(0.01, "train", "sigma_L, the smallest noise", ge=1e-6)
    levels: int = field(0, "train", "L, the number of noise levels; 0: so many that neighbours overlap by half", ge=0)
    conditioning: Literal["embedding", "division", "both"] = field(
        "both", "train",
        "how the score depends on sigma: the network is told it (NCSN), its output is divided by it (NCSNv2), or both",
    )  # fmt: skip
    draws: Literal["uniform", "logit_normal"] = field(
        "logit_normal", "train",
        "how training draws levels: uniformly, as published, or more often those at which the image takes shape, as "
        "ddpm draws its times",
    )  # fmt: skip
    dequantize: bool = field(False, "train", "add uniform noise of one grey level to training images")

    network: Literal["unet", "refinenet"] = field("unet", "train", "the network that ddpm has, or the published one")
    widths: tuple[PositiveInt, ...] = field(
        (32, 64), "train", "channels of each resolution, finest first", min_length=1, only_with=UNET
    )
    blocks: int = field(1, "train", "residual blocks of each resolution", ge=1, only_with=UNET)
    patch: int = field(2, "train", "side of the squares of pixels that are folded into channels", ge=1, only_with=UNET)
    dropout: float = field(0.0, "train", "dropout in the residual blocks", ge=0, lt=1, only_with=UNET)
    width: int = field(128, "train", "channels at full resolution, ngf", ge=2, only_with=REFINENET)

    steps: int = field(1, "sample", "T, Langevin steps at each level", ge=1)
    step_size: float = field(
        0.0, "sample",
        "epsilon of Langevin dynamics, alpha_i = epsilon sigma_i^2 / sigma_L^2; 0: the step, and the noise below "
        "Langevin's, that end each level with its own noise", ge=0,
    )  # fmt: skip
    denoise: bool = field(True, "sample", "take away the last level's noise in the end, by one more network call")

    @model_validator(mode="after")
    def levels_are_a_ladder(self) -> Self:
        if self.levels == 1:
            raise ValueError("levels: annealing takes at least 2")
        if self.step_size >= 2 * self.sigma_end**2:
            raise ValueError(f"step_size: Langevin steps of {self.step_size:g} diverge; stay below 2 sigma_end^2")
        return self

    def check(self, data: DataSpec) -> None:
        if self.largest(data) <= self.sigma_end:
            raise ValueError(f"sigma_begin: {self.largest(data):g} is not above sigma_end, {self.sigma_end:g}")
        if self.network == "refinenet" and min(data.shape[1:]) < 4:
            raise ValueError("network: refinenet takes images of at least 4 pixels a side")

    def largest(self, data: DataSpec) -> float:
        """sigma_1."""
        return self.sigma_begin or largest_distance(data.dims)

    def sigmas(self, data: DataSpec) -> list[float]:
        """All levels."""
        largest = self.largest(data)
        return geometric(largest, self.sigma_end, self.levels or number_of_levels(data.dims, largest, self.sigma_end))

    def shares(self, sigmas: Sequence[float]) -> list[float]:
        """The share of training that each level has."""
        return [1 / len(sigmas)] * len(sigmas) if self.draws == "uniform" else logit_normal(sigmas)

    def pace(self, sigmas: Sequence[float]) -> tuple[float, float]:
        """alpha_i and the variance of a step's noise, both in units of sigma_i^2: the same at all levels."""
        if self.step_size:
            rate = self.step_size / self.sigma_end**2
            return rate, 2 * rate
        gamma = sigmas[0] / sigmas[1]
        rate = consistent_rate(gamma, self.steps)
        return rate, consistent_noise(rate, gamma, self.steps)

    @property
    def told(self) -> bool:
        """Whether the network is told the level."""
        return self.conditioning != "division"

    @property
    def divided(self) -> bool:
        """Whether the network's output is divided by sigma."""
        return self.conditioning != "embedding"

    def build(self, data: DataSpec, levels: int) -> UNet | RefineNet:
        """The network."""
        channels = data.shape[0]
        if self.network == "unet":
            names = ("widths", "blocks", "patch", "dropout")
            options = {name: getattr(self, name) for name in names}
            return UNet(UNetSpec(channels, channels, num_classes=data.num_classes, **options))
        rows = (levels if self.told else 1) * max(data.num_classes, 1)
        return RefineNet(RefineNetSpec(channels, self.width, rows, first_version=self.told))


V1: Mapping[str, Any] = {
    "sigma_begin": 1.0, "levels": 10, "dequantize": True, "ema_decay": 0.0, "denoise": False,
}  # fmt: skip
PAPER: Mapping[str, Any] = {
    "batch_size": 128, "flip": True, "optimizer": "adamw", "annealing": "constant", "warmup": 1, "betas": (0.9, 0.999),
    "network": "refinenet", "draws": "uniform",
}  # fmt: skip
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "widths": (8, 16), "levels": 6, "batch_size": 32, "optimizer": "adamw", "learning_rate": 1e-2,
    },
    "small": {},
    "small-v1": {**V1, "steps": 10},
    "paper": {**PAPER, **V1, "conditioning": "embedding", "learning_rate": 1e-3, "steps": 100, "step_size": 2e-5},
    "paper-v2": {
        **PAPER, "conditioning": "division", "learning_rate": 1e-4, "sigma_begin": 50.0, "levels": 232, "steps": 5,
        "step_size": 6.2e-6, "denoise": False,
    },
}  # fmt: skip
