"""VQGAN (Esser et al. 2021): the first stage of latent diffusion on its own, an autoencoder with a codebook.

It draws no samples, and is scored by its reconstructions and by how much of the codebook they use.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from genbench import Batch, DataSpec, Model, Phase, field, hookimpl
from genbench_ldm.presets import VQ_F4, VQ_F8
from genbench_ldm.quantised import CodebookConfig, QuantisedStage

genbench_api = 2


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(VQGAN)


PUBLISHED: Mapping[str, Any] = {
    "optimizer": "adamw",
    "annealing": "constant",
    "betas": (0.5, 0.9),
    "ema_decay": 0.0,
}


class VQGANConfig(CodebookConfig):
    """The settings of `vqgan`; the defaults are the preset `small`."""

    batch_size: int = field(16, "train", "images per update", ge=1)


class VQGAN(Model):
    """Images to codes of a codebook and back, learned with the help of a critic of patches."""

    name = "vqgan"
    Config = VQGANConfig
    config: VQGANConfig
    discrete = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "factor": 2,
            "ae_widths": (8,),
            "codes": 16,
            "revive": 2,
            "adversarial": 0.5,
            "critic_layers": 1,
            "critic_width": 8,
            "batch_size": 32,
            "optimizer": "adamw",
            "learning_rate": 1e-2,
        },
        "small": {},
        # The authors' first stages for 256x256x3 (55,322,782 and 67,717,295 parameters without the critic), which
        # were trained on random crops of OpenImages: 4.5e-6 per image of an update, on a number of GPUs that they do
        # not say.
        "paper-f4": {**PUBLISHED, **VQ_F4, "batch_size": 8, "learning_rate": 3.6e-5, "critic_learning_rate": 3.6e-5},
        "paper-f8": {**PUBLISHED, **VQ_F8, "batch_size": 10, "learning_rate": 4.5e-5, "critic_learning_rate": 4.5e-5},
    }

    def __init__(self, data: DataSpec, config: VQGANConfig) -> None:
        super().__init__(data, config)
        self.stage = QuantisedStage(data.shape, config)

    @property
    def eager(self) -> tuple[nn.Module, ...]:
        return self.stage.eager

    @property
    def external_data(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.stage.external_data

    @property
    def seen_extractors(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.stage.seen_extractors

    def phases(self) -> list[Phase]:
        return self.stage.phases(self.config.learning_rate, (0.0, 1.0), self.config.warmup)

    def prepare(self, phase: str, batch: Batch) -> None:
        self.stage.prepare(phase, batch.images)

    def loss(self, phase: str, batch: Batch) -> dict[str, Tensor]:
        return self.stage.loss(phase, batch.images)

    def reconstruct(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images decoded from their codes."""
        return self.stage.coder.reconstruct(images).clamp(-1, 1)

    def codes(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.stage.codes(images)

    def codebook_size(self) -> int:
        return self.config.codes
