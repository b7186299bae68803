"""The settings of diffusion, in pixels or in latents, that a classifier may guide, and what follows from them alone."""

from dataclasses import replace
from typing import Self

from pydantic import PositiveInt, model_validator
from torch import nn

from genbench import DataSpec, Phase, field
from genbench.embeddings import check_sinusoids
from genbench.langevin import EVALUATIONS_OF_A_GRADIENT
from genbench.nets import UNetSpec
from genbench_ddpm.classifier import Pool, UNetClassifier
from genbench_ddpm.network import check_attention
from genbench_ddpm.settings import DiffusionConfig

ONLY = {"classifier": [True]}


class GuidedConfig(DiffusionConfig):
    """The settings of a classifier, of its training, and of guidance by its gradient, beside those of the diffusion.

    What the options of the classifier do not say is as in the network.
    """

    classifier: bool = field(
        False, "train", "train a classifier of noised images first, by whose gradient samples can be guided"
    )
    classifier_share: float = field(
        0.15, "train", "share of the budget that the classifier takes", gt=0, lt=1, only_with=ONLY
    )
    classifier_widths: tuple[PositiveInt, ...] = field(
        (32, 64), "train", "the classifier's channels of each resolution, finest first", min_length=1, only_with=ONLY
    )
    classifier_blocks: int = field(
        1, "train", "the classifier's residual blocks of each resolution", ge=1, only_with=ONLY
    )
    classifier_attention: tuple[int, ...] = field(
        (), "train", "the classifier's resolutions with self-attention; 0 is the finest", only_with=ONLY
    )
    classifier_head_channels: int = field(
        0, "train", "channels of each of the classifier's attention heads; 0: one head", ge=0, only_with=ONLY
    )
    classifier_pool: Pool = field(
        "mean", "train", "the logits are of the mean of the coarsest map, or of what attention reads in it",
        only_with=ONLY,
    )  # fmt: skip
    classifier_learning_rate: float = field(
        2e-3, "train", "the classifier's learning rate of AdamW; like Muon's, it falls linearly to 0", gt=0,
        only_with=ONLY,
    )  # fmt: skip
    classifier_weight_decay: float = field(
        0.05, "train", "the classifier's weight decay, decoupled from the gradient", ge=0, only_with=ONLY
    )
    classifier_scale: float = field(
        0.0, "sample", "s of guidance by the classifier's gradient, s grad log p(label | x_t); 0 for none", ge=0,
        le=1000, only_with=ONLY,
    )  # fmt: skip

    @model_validator(mode="after")
    def classifier_is_consistent(self) -> Self:
        check_sinusoids(self.classifier_widths[0], "classifier_widths")
        heads = {"head_channels": self.classifier_head_channels}
        check_attention(self.classifier_widths, self.classifier_attention, heads, "classifier_")
        return self

    @model_validator(mode="after")
    def guide_is_there(self) -> Self:
        if self.classifier_scale and not self.classifier:
            told = f"classifier_scale: {self.classifier_scale:g} needs a model trained with a classifier"
            raise ValueError(f"{told}; set classifier to true")
        return self

    def check(self, data: DataSpec) -> None:
        super().check(data)
        if self.classifier and not data.num_classes:
            raise ValueError("classifier: true needs labels, and this job is not conditional")

    def noisy_classifier(self, data: DataSpec) -> UNetClassifier | None:
        """The classifier of what `data` describes, images or latents, if there is one."""
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

    def stages(
        self, name: str, net: nn.Module, classifier: UNetClassifier | None, begin: float = 0.0, end: float = 1.0
    ) -> list[Phase]:
        """The phases from `begin` to `end`: the classifier's, if there is one, and `name`, the network's."""
        phases = []
        if classifier is not None:
            own = self.model_copy(update={"weight_decay": self.classifier_weight_decay})
            rate, span = self.classifier_learning_rate, (begin, begin + self.classifier_share)
            phase = own.phase("classifier", classifier, rate, span, others=classifier.positions)
            phases.append(replace(phase, schedule=lambda progress: 1 - progress, part="classifier"))
            begin = span[1]
        return [*phases, self.phase(name, net, self.learning_rate, (begin, end), self.warmup)]

    @property
    def network_calls(self) -> int:
        """Network calls that one sample costs; the gradient of a classifier counts as two."""
        guiding = EVALUATIONS_OF_A_GRADIENT * self.chosen.calls(self.sampler_steps) if self.classifier_scale else 0
        return super().network_calls + guiding
