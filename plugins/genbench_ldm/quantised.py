"""A first stage with a codebook, and a critic of what it reconstructs (Esser et al. 2021)."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench import DataSpec, Phase, adamw, field
from genbench.adversarial import critic_loss, generator_loss
from genbench.schedules import annealed, part_of
from genbench_ldm.codebook import Codebook, codebook_terms, straight_through
from genbench_ldm.critic import BETAS, PatchCritic, adaptive_weight, smallest_side
from genbench_ldm.first_stage import AT_ONCE, Coder, FirstStage, FirstStageConfig, Shape, Span
from genbench_ldm.perceptual import DECLARED, LPIPS, SMALLEST_SIDE, VGG, load_lpips


class CodebookConfig(FirstStageConfig):
    """The settings of the codebook, and of the critic, which `adversarial` turns on."""

    codes: int = field(2048, "train", "K, the number of vectors in the codebook", ge=2, le=2**20)
    codebook_weight: float = field(1.0, "train", "weight of |sg(z) - e|^2, which moves the codebook", ge=0)
    commitment: float = field(0.25, "train", "weight of |z - sg(e)|^2, which commits the encoder to it", ge=0)
    revive: int = field(
        20,
        "train",
        "updates without use after which a vector is moved onto a latent, as all are at first; "
        "0: never, and they begin uniformly within 1 / codes, as published",
        ge=0,
    )
    perceptual: float = field(
        0.0, "train", "weight of LPIPS, a perceptual loss by a network that must lie on this machine; 0: none", ge=0
    )
    adversarial: float = field(
        0.0, "train", "weight of the critic of patches, times the adaptive weight; 0: none", ge=0
    )
    critic_start: float = field(
        0.5, "train", "share of the first stage's training after which the critic begins", gt=0, lt=1
    )
    critic_layers: int = field(2, "train", "the critic's convolutions of stride 2", ge=1, le=8)
    critic_width: int = field(32, "train", "channels of its first convolution, doubled by each further one", ge=1)
    critic_learning_rate: float = field(1e-3, "train", "peak learning rate of the critic (Adam)", gt=0)

    def unused(self, name: str) -> str:
        return "adversarial = 0" if name.startswith("critic_") and not self.adversarial else super().unused(name)

    def check(self, data: DataSpec) -> None:
        needs = [
            (self.adversarial, smallest_side(self.critic_layers), f"critic_layers: {self.critic_layers} need"),
            (self.perceptual, SMALLEST_SIDE, "perceptual: LPIPS needs"),
        ]
        channels, height, width = data.shape
        for weight, least, told in needs:
            if weight and min(height, width) < least:
                raise ValueError(
                    f"{told} images of at least {least}x{least} pixels, {data.name!r} has {height}x{width}"
                )
        if self.perceptual and channels not in (1, 3):
            raise ValueError(f"perceptual: LPIPS takes images of 1 or 3 channels, {data.name!r} has {channels}")


OPTIONS = CodebookConfig.model_fields.keys() - FirstStageConfig.model_fields.keys()
"""The options that a first stage without a codebook does not have."""


class QuantisedCoder(Coder):
    """Encoder and decoder with a codebook between them."""

    def __init__(self, shape: Shape, config: CodebookConfig) -> None:
        super().__init__(shape, config, outputs=1)
        self.codebook = Codebook(config.codes, config.latent_channels)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Images from the vectors of their codes."""
        return self.decoded(self.quantised(self.encoded(images)))

    def quantised(self, latents: Tensor) -> Tensor:
        """The vectors that are nearest to latents (B, c, h, w)."""
        return self.codebook.look_up(self.codebook.nearest(latents))


class QuantisedStage(nn.Module, FirstStage):
    """Latents are those before quantisation, which is the first thing that decoding does (Rombach et al. 2022, 3.1).

    In its first phase the autoencoder learns alone; then, by the same optimizer, beside a critic.
    """

    def __init__(self, shape: Shape, config: CodebookConfig) -> None:
        super().__init__()
        self.config = config
        self.coder = QuantisedCoder(shape, config)
        critic = PatchCritic(shape[0], config.critic_width, config.critic_layers) if config.adversarial else None
        self.critic: PatchCritic | None = critic
        self.perceptual: LPIPS | None = load_lpips() if config.perceptual else None

    @property
    def eager(self) -> tuple[nn.Module, ...]:
        """The adaptive weight goes back through these more than once, which compiled code does not allow."""
        return () if self.critic is None else (self.coder.decoder, self.critic)

    @property
    def external_data(self) -> tuple[str, ...]:
        return (DECLARED,) if self.config.perceptual else ()

    @property
    def seen_extractors(self) -> tuple[str, ...]:
        return (VGG,) if self.config.perceptual else ()

    def phases(self, rate: float, span: Span, warmup: int = 0) -> list[Phase]:
        c, (begin, end) = self.config, span
        whole = c.phase("autoencoder", self.coder, rate, span, warmup, undecayed=[self.coder.codebook.learned])
        if self.critic is None:
            return [whole]
        assert whole.schedule is not None
        start, share = begin + c.critic_start * (end - begin), c.critic_start
        alone = replace(whole, span=(begin, start), schedule=part_of(whole.schedule, 0.0, share))
        late = part_of(whole.schedule, share, 1.0)
        beside = replace(whole, name="adversarial", span=(start, end), schedule=late, warmup=0)
        optimizer = adamw(self.critic, c.critic_learning_rate, BETAS)
        schedule = annealed(c.annealing, 0)
        critic = Phase("critic", self.critic, optimizer, span=(start, end), schedule=schedule, auxiliary=True)
        return [alone, beside, critic]

    def prepare(self, phase: str, images: Tensor) -> None:
        """Spreads the codebook over the latents, unless vectors are never moved."""
        if phase == "autoencoder" and self.config.revive:
            self.coder.codebook.spread(torch.cat([self.coder.encoded(part) for part in torch.split(images, AT_ONCE)]))

    def loss(self, phase: str, images: Tensor) -> dict[str, Tensor]:
        return self.critic_loss(images) if phase == "critic" else self.coder_loss(images, phase == "adversarial")

    def coder_loss(self, images: Tensor, judged: bool) -> dict[str, Tensor]:
        """Mean absolute error, LPIPS if asked for, the codebook's terms, and the critic's verdict if there is one.

        Source: Esser et al. 2021, section 3.1, with the absolute error of the authors' code.
        """
        c, codebook = self.config, self.coder.codebook
        latents = self.coder.encoded(images)
        codes = codebook.nearest(latents)
        vectors = codebook.look_up(codes)
        made = self.coder.decoded(straight_through(latents, vectors))
        error = F.l1_loss(made, images)
        codebook_term, commitment = codebook_terms(latents, vectors)
        losses = {"error": error, "codebook": codebook_term, "commitment": commitment}
        distance = error
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual(images, made).mean()
            distance = error + c.perceptual * losses["perceptual"]
        loss = distance + c.codebook_weight * codebook_term + c.commitment * commitment
        if judged:
            assert self.critic is not None
            fooled = generator_loss("hinge", self.critic(made))
            weight = adaptive_weight(distance, fooled, self.coder.decoder.head.weight)
            loss = loss + c.adversarial * weight * fooled
            losses |= {"adversarial": fooled, "adaptive_weight": weight}
        if self.training and c.revive:
            codebook.revive(latents, codes, c.revive)
        return {"loss": loss, **losses}

    def critic_loss(self, images: Tensor) -> dict[str, Tensor]:
        """Half of the hinge loss, as in the authors' code."""
        assert self.critic is not None
        with torch.no_grad():
            made = self.coder.reconstruct(images)
        real, fake = self.critic(images), self.critic(made)
        return {"loss": critic_loss("hinge", real, fake) / 2, "real_score": real.mean(), "fake_score": fake.mean()}

    def draw(self, images: Tensor) -> Tensor:
        return self.mean(images)

    def mean(self, images: Tensor) -> Tensor:
        """What the encoder makes of images: there is nothing random about it."""
        return self.coder.encoded(images)

    def decode(self, latents: Tensor) -> Tensor:
        return self.coder.decoded(self.coder.quantised(latents))

    def codes(self, images: Tensor) -> Tensor:
        """The number of the vector at each place, int64 (B, h, w)."""
        return self.coder.codebook.nearest(self.coder.encoded(images))
