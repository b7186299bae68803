"""The settings of `gan`."""

from typing import Literal, Self

from pydantic import model_validator

from genbench import Config, field


class GANConfig(Config):
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
    network: Literal["conv", "residual"] = field("conv", "train", "plain convolutions, or residual blocks")
    norm: Literal["group", "batch"] = field(
        "group", "train", "normalisation in the generator, by class if there are classes; batch requires ema_decay=0"
    )
    latent: int = field(64, "train", "dimensions of the latent vector", ge=1)
    width: int = field(
        32,
        "train",
        "channels of the generator: conv, at the finest level, doubled with every halving; residual, throughout",
        ge=1,
    )
    critic_width: int = field(32, "train", "channels of the critic, likewise", ge=1)
    patch: int = field(2, "train", "side of the squares of pixels that are folded into channels", ge=1)
    base: int = field(8, "train", "sides are halved until none exceeds this; in the residual critic, twice this", ge=2)
    depth: int = field(
        2,
        "train",
        "conv: convolutions per level of the critic, the generator has one fewer; residual: last blocks",
        ge=1,
    )

    @model_validator(mode="after")
    def statistics_of_the_sampled_weights(self) -> Self:
        """Batch statistics belong to the trained weights and are wrong for averages that trail them."""
        if self.norm == "batch" and self.ema_decay > 0:
            raise ValueError("norm = 'batch' keeps the statistics of the weights as trained: set ema_decay = 0 too")
        return self
