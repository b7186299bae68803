"""The settings that diffusion in pixels and in latents share, and what follows from them alone."""

from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import PositiveInt, model_validator

from genbench import DataSpec, field
from genbench.nets import UNet, UNetSpec
from genbench.optimization import OptimizerConfig
from genbench_ddpm.diffusion import (
    LEARNED,
    Diffusion,
    Prediction,
    Times,
    Variance,
    cosine_betas,
    erasing_betas,
    linear_betas,
    scaled_linear_betas,
)
from genbench_ddpm.samplers import SamplerConfig

NETWORK = (
    "widths", "blocks", "attention", "patch", "heads", "head_channels", "context", "dropout", "scale_shift", "resample",
)  # fmt: skip
"""The options that a `UNetSpec` takes as they are."""
Schedule = Literal["linear", "scaled_linear", "cosine", "erase"]
LINEAR = ["linear", "scaled_linear"]
"""The schedules that begin and end at given noise."""


def check_attention(
    widths: Sequence[int], attention: Sequence[int], heads: Mapping[str, int], prefix: str = ""
) -> None:
    """Raise ValueError, naming the option, if a resolution is not there or if heads do not divide all of the widths."""
    if any(level not in range(len(widths)) for level in attention):
        levels = list(attention)
        raise ValueError(f"{prefix}attention: {levels} names a resolution that is not in 0..{len(widths) - 1}")
    for name, size in heads.items():
        if size and any(width % size for width in widths):
            raise ValueError(f"{prefix}{name}: {size} does not divide every one of the widths {list(widths)}")


class DiffusionConfig(OptimizerConfig, SamplerConfig):
    """The settings of the process, the network, the objective and the bound, beside those of optimizer and sampler."""

    batch_size: int = field(64, "train", "images per update", ge=1)

    timesteps: int = field(1000, "train", "T, the number of noise levels", ge=2)
    schedule: Schedule = field(
        "cosine",
        "train",
        "how beta_t grows: linearly, its square root linearly, or so that alpha_bar is a cosine or falls linearly to 0",
    )
    beta_start: float = field(1e-4, "train", "beta_1", gt=0, lt=1, only_with={"schedule": LINEAR})
    beta_end: float = field(0.02, "train", "beta_T", gt=0, lt=1, only_with={"schedule": LINEAR})
    prediction: Prediction = field(
        "v",
        "train",
        "what the network predicts: noise, data, v, the posterior mean or by how much that differs from a forward step",
    )
    objective: Literal["simple", "variational", "hybrid"] = field(
        "simple", "train", "L_simple, the variational bound, or L_simple plus the bound for a learned variance"
    )
    times: Times = field(
        "logit_normal", "train", "how L_simple draws t: uniformly, or more often where the image takes shape"
    )
    vlb_weight: float = field(
        1e-3, "train", "lambda, the weight of the bound", gt=0, only_with={"objective": ["hybrid"]}
    )
    variance: Variance = field(
        "beta",
        "train",
        "sigma_t^2 of the reverse process: beta_t, the posterior's, learned between the two, or learned freely",
    )
    label_dropout: float = field(
        0.0, "train", "share of labels replaced by a null class in training, for guidance", ge=0, lt=1
    )

    widths: tuple[PositiveInt, ...] = field(
        (32, 64), "train", "channels of each resolution, finest first", min_length=1
    )
    blocks: int = field(1, "train", "residual blocks of each resolution", ge=1)
    attention: tuple[int, ...] = field((), "train", "resolutions with self-attention; 0 is the finest")
    heads: int = field(1, "train", "number of attention heads", ge=1, only_with={"head_channels": [0]})
    head_channels: int = field(0, "train", "channels of each head, instead of a number of heads; 0: use heads", ge=0)
    context: int = field(
        0, "train", "channels of the class as a token that attention sees; 0: the class is added to the time", ge=0
    )
    patch: int = field(2, "train", "side of the squares of pixels that are folded into channels", ge=1)
    dropout: float = field(0.0, "train", "dropout in the residual blocks", ge=0, lt=1)
    scale_shift: bool = field(True, "train", "time scales and shifts the features; else it is added, as in the paper")
    resample: bool = field(
        False, "train", "residual blocks halve and double the sides; else convolutions do, as in the paper"
    )

    guidance: float = field(
        1.0, "sample", "s of classifier-free guidance, eps_0 + s (eps_label - eps_0); 1 for none", ge=0
    )

    bound_exact: int = field(4, "sample", "terms of the bound that are summed exactly, from t = 1 up", ge=1)
    bound_strata: int = field(
        12, "sample", "ranges of t that estimate the other terms from one t each; 0 sums every t", ge=0
    )

    @model_validator(mode="after")
    def process_is_consistent(self) -> Self:
        if self.sampler_steps > self.timesteps:
            raise ValueError(f"steps: {self.steps} is more than the {self.timesteps} timesteps")
        if self.objective == "hybrid" and self.variance not in LEARNED:
            raise ValueError(f"objective: hybrid trains a learned variance, and variance is {self.variance}")
        if self.objective == "simple" and self.variance in LEARNED:
            told = f"variance: {self.variance} is not trained by the objective simple"
            raise ValueError(f"{told}; take hybrid or variational")
        if self.schedule == "erase" and self.prediction == "eps":
            raise ValueError("prediction: eps says nothing of x_0 at t = T, where the schedule erase leaves no signal")
        if self.guidance != 1 and not self.label_dropout:
            raise ValueError(f"guidance: {self.guidance:g} needs a model trained with label_dropout above 0")
        if self.sampler == "respaced" and self.variance == "free":
            raise ValueError("sampler: respaced has no variance of its own steps if variance is free; take ancestral")
        return self

    @model_validator(mode="after")
    def network_is_consistent(self) -> Self:
        check_attention(self.widths, self.attention, {"heads": self.heads, "head_channels": self.head_channels})
        return self

    def check(self, data: DataSpec) -> None:
        if data.num_classes:
            return
        if self.guidance != 1:
            raise ValueError(f"guidance: {self.guidance:g} needs labels, and this job is not conditional")
        if self.context:
            raise ValueError(f"context: {self.context} needs labels, and this job is not conditional")

    def process(self) -> Diffusion:
        """The diffusion process that these settings describe."""
        if self.schedule in LINEAR:
            make = linear_betas if self.schedule == "linear" else scaled_linear_betas
            betas = make(self.timesteps, self.beta_start, self.beta_end)
        else:
            betas = {"cosine": cosine_betas, "erase": erasing_betas}[self.schedule](self.timesteps)
        return Diffusion(betas, self.prediction, self.variance, self.times)

    def outputs(self, channels: int) -> int:
        """Channels of the output of a network that predicts for so many."""
        return channels * (2 if self.variance in LEARNED else 1)

    def unet(self, in_channels: int, channels: int, num_classes: int) -> UNet:
        """The network that these settings describe: from `in_channels` to a prediction for `channels`.

        The null class, if there is one, is the last.
        """
        spec = UNetSpec(
            in_channels=in_channels,
            out_channels=self.outputs(channels),
            num_classes=num_classes + 1 if num_classes and self.label_dropout else num_classes,
            **{name: getattr(self, name) for name in NETWORK},
        )
        return UNet(spec)

    @property
    def sampler_steps(self) -> int:
        """Steps of the chosen sampler: `steps`, or one per noise level."""
        return int(self.sampler_options.get("steps", self.timesteps))

    @property
    def network_calls(self) -> int:
        """Network calls that one sample costs."""
        calls = self.chosen.calls(self.sampler_steps)
        return calls if self.guidance == 1 else 2 * calls
