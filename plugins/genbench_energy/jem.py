"""JEM: a classifier whose logits are also an energy of images (Grathwohl et al. 2020)."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from genbench import Batch, DataSpec, Model, hookimpl
from genbench_energy.model import EnergyModel, Labels, contrast
from genbench_energy.networks import WideResNet
from genbench_energy.settings import TINY, JEMConfig

genbench_api = 2


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(JEM)


class JEM(EnergyModel):
    """A classifier f read as an energy: log p(x, y) = f(x)[y], log p(x) = LSE f(x), up to the same constant.

    It learns log p(x) by contrast and log p(y | x) = log softmax f(x)[y] as classifiers do (Grathwohl et al. 2020,
    sections 3 and 4).
    """

    name = "jem"
    Config = JEMConfig
    config: JEMConfig
    bf16 = False
    """A step of a chain of the published size can be smaller than bfloat16 resolves."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": TINY,
        "small": {},
        # Grathwohl et al. 2020 and the authors' command for CIFAR-10, without its crops and the two drops of
        # the rate in the last fifth. Their memory keeps floats, ours levels. 36,471,338 parameters.
        "paper": {
            "batch_size": 64, "optimizer": "adamw", "learning_rate": 1e-4, "betas": (0.9, 0.999),
            "annealing": "constant", "warmup": 1000, "ema_decay": 0.0, "gradient_clip": 0.0, "flip": True,
            "penalty": 0.0, "data_noise": 0.03, "memory": 10_000, "restarts": 0.05, "start": "noise", "steps": 20,
            "step_size": 1.0, "steepest": 0.0, "noise": 0.01, "bounded": False, "patch": 1, "stem": 16,
            "widths": (160, 320, 640), "blocks": 4, "activation": "leaky_relu", "chains_of": "images",
            "class_weight": 1.0,
        },
    }  # fmt: skip

    def __init__(self, data: DataSpec, config: JEMConfig) -> None:
        super().__init__(data, config)
        self.network = WideResNet(data, config, data.num_classes)

    def classify(self, images: Tensor) -> Tensor:
        """f(x): logits (B, classes)."""
        logits: Tensor = self.network(images)
        return logits

    def energy(self, images: Tensor, labels: Labels = None) -> Tensor:
        logits = self.classify(images)
        return -logits.logsumexp(1) if labels is None else -logits.gather(1, labels[:, None]).squeeze(1)

    def loss(self, phase: str, batch: Batch) -> dict[str, Tensor]:
        images, _ = self.both(batch.images, batch.labels if self.config.chains_of == "classes" else None)
        logits = self.classify(images)
        real, made = (-logits.logsumexp(1)).chunk(2)
        classes = F.cross_entropy(logits[: len(batch)], torch.as_tensor(batch.labels))
        losses = {"classes": classes, "real": real.mean(), "made": made.mean()}
        weight = 1 + (self.config.class_weight - 1) * (1 - batch.progress)
        return {"loss": contrast(real, made, self.config.penalty) + weight * classes, **losses}
