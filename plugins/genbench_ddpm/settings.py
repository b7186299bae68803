"""The settings that diffusion in pixels and in latents share, and what follows from them alone."""

from dataclasses import replace
from typing import Literal, Self

from pydantic import PositiveInt, model_validator
from torch import nn

from genbench import DataSpec, Phase, field
from genbench.langevin import EVALUATIONS_OF_A_GRADIENT
from genbench.nets import UNet, UNetSpec
from genbench.optimization import OptimizerConfig
from genbench_ddpm.classifier import ClassifierConfig, UNetClassifier, check_attention
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


class DiffusionConfig(OptimizerConfig, SamplerConfig, ClassifierConfig):
    """The settings of process, network, objective and bound, beside those of optimizer, sampler and classifier."""

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
        if self.classifier_scale and self.schedule == "erase" and not self.chosen.moves_means:
            told = f"classifier_scale: {self.classifier_scale:g} asks {self.sampler} for x_0 at t = T"
            raise ValueError(f"{told}, where the schedule erase leaves no signal; take ancestral or respaced")
        return self

    @model_validator(mode="after")
    def network_is_consistent(self) -> Self:
        heads = {"heads": self.heads, "head_channels": self.head_channels}
        check_attention(self.widths, self.attention, heads)
        return self

    def check(self, data: DataSpec) -> None:
        if data.num_classes:
            return
        unmet = {
            f"guidance: {self.guidance:g}": self.guidance != 1,
            "classifier: true": self.classifier,
            f"context: {self.context}": self.context,
        }
        for option, asked in unmet.items():
            if asked:
                raise ValueError(f"{option} needs labels, and this job is not conditional")

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

    def noisy_classifier(self, data: DataSpec) -> UNetClassifier | None:
        """The classifier of what `data` describes, images or latents, if there is one.

        What its own options do not say is as in the network.
        """
        if not self.classifier:
            return None
        spec = UNetSpec(
            in_channels=data.shape[0],
            out_channels=data.num_classes,
            widths=self.classifier_widths,
            blocks=self.classifier_blocks,
            attention=self.classifier_attention,
            head_channels=self.classifier_head_channels,
            patch=self.patch,
            scale_shift=self.scale_shift,
            resample=self.resample,
        )
        return UNetClassifier(spec, data.shape[1:], self.classifier_pool)

    def stages(self, name: str, net: nn.Module, classifier: UNetClassifier | None, begin: float = 0.0) -> list[Phase]:
        """The phases from `begin` on: that of the classifier, if there is one, and `name`, that of the network.

        The classifier has AdamW's rate and weight decay for itself, and its rates fall linearly to 0.
        """
        phases = []
        if classifier is not None:
            own = self.model_copy(update={"weight_decay": self.classifier_weight_decay})
            rate, span = self.classifier_learning_rate, (begin, begin + self.classifier_share)
            phase = own.phase("classifier", classifier, rate, span, others=classifier.positions)
            phases.append(replace(phase, schedule=lambda progress: 1 - progress))
            begin = span[1]
        return [*phases, self.phase(name, net, self.learning_rate, (begin, 1.0), self.warmup)]

    @property
    def sampler_steps(self) -> int:
        """Steps of the chosen sampler: `steps`, or one per noise level."""
        return int(self.sampler_options.get("steps", self.timesteps))

    @property
    def network_calls(self) -> int:
        """Network calls that one sample costs; the gradient of a classifier counts as two."""
        calls = self.chosen.calls(self.sampler_steps)
        own = 1 if self.guidance == 1 else 2
        return calls * (own + EVALUATIONS_OF_A_GRADIENT * (self.classifier_scale > 0))
