"""A cascade: a diffusion of small images, and one of images given their small ones.

    s = the area means of x, in levels,   P(s) by the base,   P(x | s) by the upsampler, which sees s enlarged

Both are trained on one budget, one after the other, and a sample passes through both. A classifier may guide the base.
Sources: Dhariwal & Nichol 2021, section 5.2 and appendix I (ADM-U); Ho et al. 2022, "Cascaded diffusion models for high
fidelity image generation".
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import PositiveInt, ValidationError, model_validator
from torch import Tensor
from torch.nn import functional as F

from genbench import Batch, DataSpec, Model, Phase, field, hookimpl
from genbench.capabilities import SumOfTerms
from genbench.distributions import evenly_spread
from genbench.images import to_float, to_uint8
from genbench.nets import latent_size, pad_to_multiple
from genbench_ddpm.diffuser import Diffuser
from genbench_ddpm.guided import GuidedConfig
from genbench_ddpm.presets import ADM, ADM_64, ADM_128, ADM_G_128, SMALL_ADM, TINY
from genbench_ddpm.samplers import steps_of
from genbench_ddpm.settings import DiffusionConfig, Schedule


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(Cascade)


OWN = (
    "learning_rate", "schedule", "widths", "blocks", "attention", "heads", "head_channels", "patch", "dropout", "steps",
)  # fmt: skip
"""The options that are the upsampler's alone: the base has its own, whose names have `base_` before these."""


class CascadeConfig(GuidedConfig):
    """The settings of `cascade`; the defaults are the preset `small`.

    An option is of both stages, unless there is one of the same name with `base_` before it: then it is the
    upsampler's. Those of the classifier are of the base, which alone it guides.
    """

    widths: tuple[PositiveInt, ...] = field(
        (32, 32), "train", "channels of each resolution, finest first", min_length=1
    )

    factor: Literal[2, 4, 8] = field(2, "train", "factor by which the sides of the small images are shorter")
    base_share: float = field(0.55, "train", "share of the budget for the base, besides its classifier", gt=0, lt=1)
    augmentation: float = field(
        0.0,
        "train",
        "most noise, as a standard deviation, that is added to the small images that the upsampler learns from; it is "
        "told how much",
        ge=0,
        le=2,
    )
    small_noise: float = field(
        0.0, "sample", "noise, as a standard deviation, that is added to small images before they are enlarged", ge=0
    )

    base_learning_rate: float = field(2e-3, "train", "the base's peak learning rate of AdamW", gt=0)
    base_schedule: Schedule = field("cosine", "train", "how the base's beta_t grows")
    base_widths: tuple[PositiveInt, ...] = field(
        (64, 64), "train", "the base's channels of each resolution, finest first", min_length=1
    )
    base_blocks: int = field(1, "train", "the base's residual blocks of each resolution", ge=1)
    base_attention: tuple[int, ...] = field((), "train", "the base's resolutions with self-attention; 0 is the finest")
    base_heads: int = field(
        1, "train", "the base's number of attention heads", ge=1, only_with={"base_head_channels": [0]}
    )
    base_head_channels: int = field(
        0, "train", "channels of each of the base's heads, instead of a number of heads; 0: use base_heads", ge=0
    )
    base_patch: int = field(2, "train", "side of the squares of pixels that the base folds into channels", ge=1)
    base_dropout: float = field(0.0, "train", "dropout in the base's residual blocks", ge=0, lt=1)
    base_steps: int = steps_of(12, "the base's ")

    @property
    def base(self) -> Self:
        """These settings with the base's own in the place of the upsampler's."""
        return self.model_copy(update={name: getattr(self, f"base_{name}") for name in OWN})

    @property
    def upsampler(self) -> Self:
        """These settings without the classifier."""
        return self.model_copy(update={"classifier": False, "classifier_scale": 0.0})

    @property
    def base_end(self) -> float:
        """The share of the budget after which the base, and its classifier, are trained."""
        return self.base_share + (self.classifier_share if self.classifier else 0.0)

    @model_validator(mode="after")
    def base_is_consistent(self) -> Self:
        try:
            GuidedConfig(**self.base.model_dump(include=set(GuidedConfig.model_fields)))
        except ValidationError as fault:
            raise ValueError(f"the base's {fault.errors()[0]['msg'].removeprefix('Value error, ')}") from None
        return self

    @model_validator(mode="after")
    def shares_leave_something(self) -> Self:
        if self.base_end >= 1:
            told = f"base_share: {self.base_share:g} and classifier_share {self.classifier_share:g}"
            raise ValueError(f"{told} leave nothing of the budget to the upsampler")
        return self

    @model_validator(mode="after")
    def noise_is_learned(self) -> Self:
        if self.small_noise > self.augmentation:
            told = f"small_noise: {self.small_noise:g} is more than the upsampler learns from"
            raise ValueError(f"{told}, augmentation = {self.augmentation:g}")
        return self

    def unused(self, name: str) -> str:
        told = super().unused(name)
        is_of_both = name in DiffusionConfig.model_fields and name not in OWN
        return DiffusionConfig.unused(self.base, name) if told and is_of_both else told

    def check(self, data: DataSpec) -> None:
        super().check(data)
        if min(data.shape[1:]) < self.factor:
            raise ValueError(f"factor: {self.factor} is more than the {min(data.shape[1:])} pixels of a side")


def of_base(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of `ddpm` as those of a base, as far as a base has its own."""
    return {f"base_{name}": settings[name] for name in OWN if name in settings}


UPSAMPLER: Mapping[str, Any] = {
    **{name: value for name, value in ADM.items() if name != "fourier"},
    "widths": (192, 192, 384, 384, 768, 768),
    "factor": 4,
}
ADM_U: Mapping[str, Any] = {
    **UPSAMPLER,
    **of_base(ADM_64),
    "attention": (3, 4, 5),
    "heads": 4,
    "base_share": 540 * 2048 / (540 * 2048 + 500 * 256),  # images, in thousands
}
"""64 -> 256: 295,904,454 parameters of the base and 311,795,910 of the upsampler, for 1,000 classes.

The base was trained on batches of 2,048; here both have the upsampler's, of 256.
"""

ADM_U_512: Mapping[str, Any] = {
    **UPSAMPLER,
    **of_base(ADM_128),
    "attention": (4, 5),
    "head_channels": 64,
    "base_share": 4360 / (4360 + 1050),  # thousands of updates
}
"""128 -> 512: 421,529,606 and 308,835,270."""

ADM_G_U_512: Mapping[str, Any] = {
    **ADM_U_512,
    **{name: value for name, value in ADM_G_128.items() if name.startswith("classifier")},
    "classifier_share": 300 / (300 + 4360 + 1050),
    "base_share": 4360 / (300 + 4360 + 1050),
}
"""The same with the base's classifier, 42,568,040: the row "ADM-G, ADM-U" of latent diffusion's cost table."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        **TINY,
        "base_share": 0.5,
        "base_widths": (8, 16),
        "base_patch": 1,
        "base_steps": 10,
        "base_learning_rate": 1e-2,
    },
    "small": {},
    "small-guided": {**SMALL_ADM, "base_steps": 50, "classifier": True, "classifier_scale": 1.0},
    "paper-adm-u": ADM_U,
    "paper-adm-u-512": ADM_U_512,
    "paper-adm-g-u-512": ADM_G_U_512,
}


def rounded(images: Tensor) -> Tensor:
    """Images at the bin centres of the levels as which the harness stores them; what is not finite stays so."""
    return torch.where(images.isfinite(), to_float(to_uint8(images)), images)


class Cascade(SumOfTerms, Model):
    """Diffusion of small images, then of images given the small ones; its likelihood bounds that of the 256 levels."""

    name = "cascade"
    Config = CascadeConfig
    config: CascadeConfig
    presets = PRESETS
    conditional = True
    discrete = True
    likelihood: ClassVar[Literal["exact", "bound", "estimate"]] = "bound"

    def __init__(self, data: DataSpec, config: CascadeConfig) -> None:
        super().__init__(data, config)
        (channels, *size), base = data.shape, config.base
        small = replace(data, shape=(channels, *latent_size((size[0], size[1]), config.factor)))
        told = int(config.augmentation > 0)  # the channel that says how much noise there is
        self.base_process, self.process = base.process(), config.process("image")
        self.base = base.unet(channels, base.outputs(channels), data)
        self.upsampler = config.unet(2 * channels + told, config.outputs(channels), data)
        self.classifier = base.noisy_classifier(small)
        self.base_diffuser = Diffuser(
            self.predict_small, self.base_process, base, small, discrete=True, classifier=self.classifier
        )

    @property
    def nfe(self) -> int:
        return self.config.base.network_calls + self.config.upsampler.network_calls

    @property
    def likelihood_note(self) -> str:
        return f"of small images and of images given these, each a {self.base_diffuser.bound_note}"

    def phases(self) -> list[Phase]:
        config, end = self.config, self.config.base_end
        return [
            *config.base.stages("base", self.base, self.classifier, end=end),
            config.phase("upsampler", self.upsampler, config.learning_rate, (end, 1.0), config.warmup),
        ]

    def loss(self, phase: str, batch: Batch) -> Tensor | dict[str, Tensor]:
        small = self.small(batch.images)
        if phase == "classifier":
            return self.base_diffuser.classifier_loss(small, batch.labels)
        if phase == "base":
            return self.base_diffuser.loss(small, batch.labels)
        noise = self.config.augmentation * evenly_spread(len(small), small.device)
        return self.upsampling(small, noise).loss(batch.images, batch.labels)

    def small(self, images: Tensor) -> Tensor:
        """The small images (B, C, h, w) of images (B, C, H, W): means over squares, rounded to levels.

        Sides that do not divide are padded at the bottom and the right first. Of levels the means are exact.
        """
        factor = self.config.factor
        return rounded(F.avg_pool2d(pad_to_multiple(images, factor), factor))

    def enlarged(self, small: Tensor) -> Tensor:
        """Small images (B, c, h, w) at the size of images, by bilinear interpolation."""
        large = F.interpolate(small, scale_factor=float(self.config.factor), mode="bilinear")
        return large[..., : self.data.shape[1], : self.data.shape[2]]

    def predict_small(self, s_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """What the base predicts; it sees t on a scale of 0 to 1,000 whatever T is."""
        out: Tensor = self.base(s_t, self.base_process.per_mille(t), labels)
        return out

    def upsampling(self, small: Tensor, noise: Tensor | None = None) -> Diffuser:
        """The diffusion of images given their small ones (B, C, h, w).

        Noise of standard deviations (B,), or of `small_noise`, is added to these if the upsampler has learned from
        such; it is told how much by one more channel. Source: Ho et al. 2022, section 3.3, conditioning augmentation.
        """
        seen = small
        if self.config.augmentation:
            chosen = small.new_full((len(small),), self.config.small_noise) if noise is None else noise
            deviation = chosen[:, None, None, None].expand(-1, 1, *small.shape[2:])
            seen = torch.cat([small + deviation * torch.randn_like(small), deviation], dim=1)
        above = self.enlarged(seen)

        def predict(x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
            out: Tensor = self.upsampler(torch.cat([x_t, above], dim=1), self.process.per_mille(t), labels)
            return out

        return Diffuser(predict, self.process, self.config.upsampler, self.data, discrete=True)

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        small = rounded(self.base_diffuser.sample(n, labels))
        return self.upsampling(small).sample(n, labels)

    def bound_terms(self, images: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """The parts of -log_prob, nats per image (B,): L_T, L_t and L_0 of the base and of the upsampler.

        They bound -log P(x) from above, since s(x), the small image, is a function of x: P(x) = sum_s P(s) P(x | s) >=
        P(s(x)) P(x | s(x)), where both factors are probabilities of levels. If noise z is added to s, P(x | s) is the
        mean of P(x | z), and its logarithm at least the mean of the logarithms, of which one draw is taken.
        """
        small = self.small(images)
        stages = {
            "base": self.base_diffuser.bound(small, labels),
            "upsampler": self.upsampling(small).bound(images, labels),
        }
        return {f"{stage} {name}": term for stage, terms in stages.items() for name, term in terms.items()}

    def bound_over_time(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """L_{t-1} of both stages together, nats per image (T, B), at about 60 values of t."""
        small = self.small(images)
        times, base = self.base_diffuser.bound_over_time(small, labels)
        return times, base + self.upsampling(small).bound_over_time(images, labels)[1]
