"""The settings of `gan`."""

from typing import Literal, Self

from pydantic import PositiveInt, model_validator

from genbench import Config, DataSpec, field
from genbench.condition import SHOWING
from genbench.optimizers import Betas
from genbench_gan.augment import AugmentOptions
from genbench_gan.latent_langevin import SamplingOptions

BIGGAN = {"network": ["biggan", "biggan_deep"]}
STYLE = {"network": ["style"]}
OTHERS = {"network": ["conv", "residual", *BIGGAN["network"]]}


class PenaltyOptions(Config):
    """What is added to the losses; penalties on gradients, each with how often it is computed."""

    gradient_penalty: float = field(
        10.0, "train", "weight of the gradient penalty", ge=0, only_with={"loss": ["wasserstein"]}
    )
    r1: float = field(0.0, "train", "gamma of the R1 penalty on the critic's gradient at real images; 0: none", ge=0)
    r1_every: int = field(
        16, "train", "steps per R1 penalty, whose weight is multiplied by the critic updates in them", ge=1
    )
    path_length: float = field(
        0.0,
        "train",
        "weight of the generator's path length penalty, of images of variance 1 / pixels; 0: none",
        ge=0,
        only_with=STYLE,
    )
    path_every: int = field(8, "train", "generator updates per path length penalty, likewise", ge=1, only_with=STYLE)
    energy_score: float = field(
        1.0, "train", "weight of the energy score of the generator's answers", ge=0, only_given=SHOWING
    )


class StyleOptions(Config):
    """What StyleGAN2's networks have that the others have not."""

    mapping: int = field(2, "train", "layers from a latent to what modulates the layers", ge=1, only_with=STYLE)
    mapping_rate: float = field(
        0.01, "train", "their learning rate, relative to others'", gt=0, only_with=STYLE | {"equalized": [True]}
    )
    equalized: bool = field(
        False, "train", "scale weights when they are used, so that all learn equally fast", only_with=STYLE
    )
    mixing: float = field(
        0.0, "train", "share of the images in training that two latents make", ge=0, le=1, only_with=STYLE
    )
    tanh: bool = field(True, "train", "bound the generator's images by tanh", only_with=STYLE)
    widest: int = field(512, "train", "the most channels at any level", ge=1, only_with=STYLE)
    critic_skips: bool = field(True, "train", "whether the critic's blocks are residual", only_with=STYLE)
    deviation_group: int = field(
        4, "train", "images over which the critic sees standard deviations", ge=1, only_with=STYLE
    )


class HierarchyOptions(Config):
    """What BigGAN's networks have that the others have not; levels are counted from the finest, 0."""

    multipliers: tuple[PositiveInt, ...] = field(
        (1, 2),
        "train",
        "channels of each level in widths, finest first; the last is that of coarser ones too",
        only_with=BIGGAN,
        min_length=1,
    )
    attention: tuple[int, ...] = field((), "train", "levels with self-attention, not the coarsest", only_with=BIGGAN)
    embedding: int = field(
        32,
        "train",
        "dimensions of the class embedding that all normalisations share; 0 for a table in each",
        ge=0,
        only_with=BIGGAN,
    )
    hierarchical: bool = field(
        True, "train", "steer each level by a part of the latent too; biggan_deep: by all of it", only_with=BIGGAN
    )
    critic_base: int = field(8, "train", "the critic halves sides until none exceeds this", ge=1, only_with=BIGGAN)
    generator_spectral_norm: bool = field(
        False, "train", "divide the generator's weights by their spectral norm too", only_with=BIGGAN
    )

    def multiplier(self, level: int) -> int:
        """The channels of a level in widths."""
        return self.multipliers[min(level, len(self.multipliers) - 1)]


class GANConfig(PenaltyOptions, HierarchyOptions, StyleOptions, AugmentOptions, SamplingOptions):
    """The two networks, the adversarial loss and the two optimizers; the defaults are the preset `small`.

    Widths are channels, `patch` and `base` are pixels a side.
    """

    batch_size: int = field(32, "train", "images per update, of the critic and of the generator", ge=1)
    learning_rate: float = field(2e-3, "train", "peak learning rate of the generator (Adam)", gt=0)
    critic_learning_rate: float = field(1e-3, "train", "peak learning rate of the critic (Adam)", gt=0)
    annealing: Literal["linear", "constant"] = field("linear", "train", "learning rates after the warm-up")
    betas: Betas = field((0.0, 0.99), "train", "Adam's decay rates")
    loss: Literal["hinge", "non_saturating", "wasserstein"] = field("hinge", "train", "the adversarial loss")
    spectral_norm: bool = field(True, "train", "divide the critic's weights by their spectral norm", only_with=OTHERS)
    critic_steps: int = field(1, "train", "critic updates per generator update", ge=1)
    network: Literal["conv", "residual", "biggan", "biggan_deep", "style"] = field(
        "conv", "train", "plain convolutions, residual blocks, BigGAN's or BigGAN-deep's networks, or StyleGAN2's"
    )
    norm: Literal["group", "batch"] = field(
        "group", "train", "normalisation in the generator, by class if there are classes", only_with=OTHERS
    )
    init: Literal["default", "orthogonal", "normal"] = field(
        "default", "train", "initial weights: torch's, orthogonal matrices, or of deviation 0.02", only_with=OTHERS
    )
    orthogonal: float = field(
        0.0, "train", "weight of the generator's orthogonal regularisation", ge=0, only_with=OTHERS
    )
    latent: int = field(64, "train", "dimensions of the latent vector", ge=1)
    width: int = field(
        32,
        "train",
        "channels of the generator: at the finest level, doubled with every halving; residual, throughout; "
        "biggan, times the multipliers",
        ge=1,
    )
    critic_width: int = field(32, "train", "channels of the critic, likewise", ge=1)
    critic_gain: bool = field(
        True,
        "train",
        "multiply the plain critic's activations so that their mean square stays, which spectral norms do not",
        only_with={"network": ["conv"]},
    )
    upsampling: Literal["nearest", "transposed"] = field(
        "nearest",
        "train",
        "how the plain generator doubles sides: nearest neighbours and a convolution, or a transposed convolution, "
        "which leaves more of a grid (Odena et al. 2016)",
        only_with={"network": ["conv"]},
    )
    detail: int = field(
        16,
        "train",
        "channels of a pixel before the plain generator's last convolution, at full resolution; 0: none, patches are "
        "written as they are",
        ge=0,
        only_with={"network": ["conv"]},
    )
    patch: int = field(
        0,
        "train",
        "side of the squares of pixels that are folded into channels; 0: 2, and 4 where a side exceeds 32 pixels",
        ge=0,
    )
    base: int = field(8, "train", "sides are halved until none exceeds this; in the residual critic, twice this", ge=2)
    depth: int = field(
        2,
        "train",
        "convolutions per level; conv: of the critic, the generator has one fewer; residual: last blocks; "
        "biggan_deep: blocks per level",
        ge=1,
        only_with={"network": ["conv", "residual", "biggan_deep", "style"]},
    )

    @model_validator(mode="after")
    def coarser_levels_are_wider(self) -> Self:
        """The deep network's skip connections leave out channels on the way to finer levels, and append none."""
        if self.network == "biggan_deep" and list(self.multipliers) != sorted(self.multipliers):
            raise ValueError(f"multipliers: {list(self.multipliers)} must not decrease for network = 'biggan_deep'")
        return self

    @model_validator(mode="after")
    def groups_of_one_kind(self) -> Self:
        """Real and generated images are scored in one batch, and no group may have both."""
        if self.network == "style" and self.pieces[0] % self.deviation_group:
            given = "micro_batch" if self.micro_batch else "batch_size"
            raise ValueError(f"deviation_group: {self.deviation_group} does not divide {given}, {self.pieces[0]}")
        return self

    @model_validator(mode="after")
    def scores_with_a_sign(self) -> Self:
        """ADA's measure of overfitting is a share of positive scores, and Wasserstein scores have no origin."""
        if self.augment == "ada" and self.loss == "wasserstein":
            raise ValueError("augment = 'ada' goes by the sign of scores, which is arbitrary with loss = 'wasserstein'")
        return self

    def sized(self, data: DataSpec) -> Self:
        """These settings with the `patch` that such images get, which keeps the finest feature maps small."""
        return self if self.patch else self.model_copy(update={"patch": 2 if max(data.shape[1:]) <= 32 else 4})

    def check(self, data: DataSpec) -> None:
        if data.condition and (self.network != "conv" or self.augment != "none"):
            raise ValueError(f"conditions of kind {data.kind} need network = conv, without augment")
        if self.network not in BIGGAN["network"]:
            return
        if data.num_classes and self.hierarchical and not self.embedding:
            raise ValueError("embedding = 0 gives each normalisation a table of classes: set hierarchical = false too")
