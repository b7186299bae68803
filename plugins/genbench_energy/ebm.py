"""EBM: an energy learned by contrast with Langevin chains that go on from a replay memory (Du & Mordatch 2019)."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor

from genbench import Batch, DataSpec, Model, hookimpl
from genbench_energy.model import EnergyModel, Labels, contrast
from genbench_energy.networks import ResNet, StridedNet
from genbench_energy.settings import TINY, EBMConfig

genbench_api = 2


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(EBM)


PAPER: Mapping[str, Any] = {
    "batch_size": 128, "optimizer": "adamw", "learning_rate": 3e-4, "betas": (0.0, 0.999), "annealing": "constant",
    "warmup": 1, "ema_decay": 0.0, "gradient_clip": 0.0, "penalty": 1.0, "data_noise": 0.0, "memory": 10_000,
    "restarts": 0.05, "start": "noise", "steps": 60, "step_size": 20.0, "steepest": 0.01, "noise": 0.01,
    "network": "residual", "patch": 1, "activation": "leaky_relu", "spectral_norm": True,
}  # fmt: skip


class EBM(EnergyModel):
    """An energy from a residual network; with classes, E(x, y), whose chains keep their class."""

    name = "ebm"
    Config = EBMConfig
    config: EBMConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": TINY,
        "small": {},
        # Du & Mordatch 2019 and the authors' commands for CIFAR-10 (18,591,105 parameters; and 5,349,249
        # for 10 classes). Images there are in [0, 1], so that step and noise are half of these.
        "paper": {**PAPER, "widths": (128, 256, 512), "blocks": 3, "dropout": 0.5},
        "paper-conditional": {**PAPER, "widths": (128, 256, 256), "blocks": 2},
    }

    def __init__(self, data: DataSpec, config: EBMConfig) -> None:
        super().__init__(data, config)
        self.network = ResNet(data, config, 1) if config.network == "residual" else StridedNet(data, config)

    def energy(self, images: Tensor, labels: Labels = None) -> Tensor:
        found: Tensor = self.network(images, labels).squeeze(1)
        return found

    def loss(self, phase: str, batch: Batch) -> dict[str, Tensor]:
        real, made = self.energy(*self.both(batch.images, batch.labels)).chunk(2)
        return {"loss": contrast(real, made, self.config.penalty), "real": real.mean(), "made": made.mean()}
