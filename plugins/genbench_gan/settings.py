"""The settings of `gan`."""

from typing import Literal, Self

from pydantic import model_validator

from genbench import Config, DataSpec, field
from genbench_gan.latent_langevin import SamplingOptions

BIGGAN = {"network": ["biggan", "biggan_deep"]}


class HierarchyOptions(Config):
    """What BigGAN's networks have that the others have not; levels are counted from the finest, 0."""

    multipliers: tuple[int, ...] = field(
        (1, 2),
        "train",
        "channels of each level in widths, finest first; the last is that of coarser ones too",
        only_with=BIGGAN,
        min_length=1,
    )
    attention: tuple[int, ...] = field((), "train", "levels with self-attention", only_with=BIGGAN)
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


class GANConfig(HierarchyOptions, SamplingOptions):
    """The two networks, the adversarial loss and the two optimizers; the defaults are the preset `small`.

    Widths are channels, `patch` and `base` are pixels a side.
    """

    batch_size: int = field(32, "train", "images per update, of the critic and of the generator", ge=1)
    learning_rate: float = field(2e-3, "train", "peak learning rate of the generator (Adam)", gt=0)
    critic_learning_rate: float = field(1e-3, "train", "peak learning rate of the critic (Adam)", gt=0)
    betas: tuple[float, float] = field((0.0, 0.99), "train", "Adam's decay rates")
    loss: Literal["hinge", "non_saturating", "wasserstein"] = field("hinge", "train", "the adversarial loss")
    gradient_penalty: float = field(
        10.0, "train", "weight of the gradient penalty", ge=0, only_with={"loss": ["wasserstein"]}
    )
    spectral_norm: bool = field(True, "train", "divide the critic's weights by their spectral norm")
    critic_steps: int = field(1, "train", "critic updates per generator update", ge=1)
    network: Literal["conv", "residual", "biggan", "biggan_deep"] = field(
        "conv", "train", "plain convolutions, residual blocks, or BigGAN's or BigGAN-deep's networks"
    )
    norm: Literal["group", "batch"] = field(
        "group", "train", "normalisation in the generator, by class if there are classes"
    )
    init: Literal["default", "orthogonal", "normal"] = field(
        "default", "train", "initial weights: torch's, orthogonal matrices, or of deviation 0.02"
    )
    orthogonal: float = field(0.0, "train", "weight of the generator's orthogonal regularisation", ge=0)
    latent: int = field(64, "train", "dimensions of the latent vector", ge=1)
    width: int = field(
        32,
        "train",
        "channels of the generator: conv, at the finest level, doubled with every halving; residual, throughout; "
        "biggan, times the multipliers",
        ge=1,
    )
    critic_width: int = field(32, "train", "channels of the critic, likewise", ge=1)
    patch: int = field(2, "train", "side of the squares of pixels that are folded into channels", ge=1)
    base: int = field(8, "train", "sides are halved until none exceeds this; in the residual critic, twice this", ge=2)
    depth: int = field(
        2,
        "train",
        "conv: convolutions per level of the critic, the generator has one fewer; residual: last blocks; "
        "biggan_deep: blocks per level",
        ge=1,
    )

    @model_validator(mode="after")
    def coarser_levels_are_wider(self) -> Self:
        """The deep network's skip connections leave out channels on the way to finer levels, and append none."""
        if self.network == "biggan_deep" and list(self.multipliers) != sorted(self.multipliers):
            raise ValueError(f"multipliers: {list(self.multipliers)} must not decrease for network = 'biggan_deep'")
        return self

    def check(self, data: DataSpec) -> None:
        if self.network not in BIGGAN["network"]:
            return
        if data.num_classes and self.hierarchical and not self.embedding:
            raise ValueError("embedding = 0 gives each normalisation a table of classes: set hierarchical = false too")
