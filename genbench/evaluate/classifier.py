"""A small convolutional classifier whose penultimate layer is the feature space for datasets unlike ImageNet.

A JSON file describes a trained one (`Facts`); the safetensors file beside it holds its weights.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from genbench.images import to_float
from genbench.support import digests, store
from genbench.support.errors import CorruptData, first_line, removal
from genbench.support.sealed import check_digest, read_sealed, write_sealed

RECIPE = 2
"""Version of architecture and training; raise it when the same images would give a different classifier."""
FIRST_WIDTHS = (32, 64)
WIDTH, MOST_WIDTH, MOST_SIDE = 64, 128, 64
FEW = 1000
LEAST_DEVIATION = 1e-6
"""What features are divided by at least: those of images that are all alike have no deviation."""
LOCAL_FILE = "classifier.json"


class Facts(BaseModel):
    """A trained classifier's architecture, origin, accuracy, and the SHA-256 of its weights.

    The files of the classifiers that ship with genbench (recipe 1) do not give their widths.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    about: str
    recipe: int
    shape: tuple[int, int, int]
    num_classes: int
    dim: int
    widths: tuple[int, ...] = FIRST_WIDTHS
    trained_on: str
    train_images: int
    held_out_images: int = 0
    updates: int | None = None
    train_accuracy: float | None = None
    held_out_accuracy: float | None = None
    test_accuracy: float | None = None
    sha256: str


def size_for(shape: tuple[int, int, int], images: int) -> tuple[int, tuple[int, ...]]:
    """The number of features, and the channels at each halving of the side, for images of this shape and number.

    The side is halved until it is 4 to 7, and the channels double: up to 64 at the second halving, or the third if
    there are four. Below 1,000 training images everything is half as wide.
    """
    stages = max(2, int(math.log2(min(MOST_SIDE, *shape[1:]) / 4)))
    narrowest = WIDTH // 2 if stages < 4 else WIDTH // 4
    less = 2 if images < FEW else 1
    widths = tuple(min(narrowest * 2**stage, MOST_WIDTH) // less for stage in range(stages))
    return WIDTH // less + widths[-2], widths


class Classifier(nn.Module):
    """Pairs of 3x3 convolutions that halve the side, a feature layer, means over space, and a linear head.

    Features are the means of the feature layer, preceded by those of the last pair but one, which see texture. `scale`
    makes the mean variance of both over training images 1, so that distances are comparable across domains. The head
    has one more output than classes: the logit of an image that is of none. Images of more than 64 pixels are averaged
    down to at most that first.

    In training a batch normalisation follows each convolution if `normalised`; `folded` makes it part of the
    convolution, so that features do not depend on the rest of the batch and keep the contrast. In recipe 1 features are
    those of the feature layer alone, with one scale, and nothing is of no class.
    """

    def __init__(
        self, shape: tuple[int, int, int], num_classes: int, dim: int, widths: tuple[int, ...],
        recipe: int = RECIPE, normalised: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shape, self.num_classes, self.dim, self.widths = shape, num_classes, dim, widths
        self.recipe = recipe
        self.pooled = tuple(math.ceil(side / MOST_SIDE) for side in shape[1:])
        late = dim if recipe == 1 else dim - widths[-2]
        channels = shape[0]
        layers: list[nn.Module] = []
        for width, stride in [*((w, s) for w in widths for s in (2, 1)), (late, 1)]:
            layers.append(nn.Conv2d(channels, width, 3, stride, padding=1))
            layers += [nn.BatchNorm2d(width), nn.SiLU()] if normalised else [nn.SiLU()]
            channels = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(dim, num_classes + (recipe > 1))
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(() if recipe == 1 else dim))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    @property
    def early(self) -> int:
        """The number of layers before the last halving."""
        convolutions = 2 * len(self.widths) + 1
        return len(self.layers) // convolutions * (convolutions - 3)

    def forward(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, dim) and logits (B, num_classes) of uint8 images (B, C, H, W)."""
        return self.classify(to_float(levels))

    def classify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, for float images in [-1, 1]."""
        features, outputs = self.outputs(images)
        return features, outputs[:, : self.num_classes]

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and all outputs of the head, of float images in [-1, 1]."""
        if max(self.pooled) > 1:
            images = F.avg_pool2d(images, self.pooled, ceil_mode=True)
        early = self.layers[: self.early](images)
        means = [early.mean((2, 3))] if self.recipe > 1 else []
        features = torch.cat([*means, self.layers[self.early :](early).mean((2, 3))], 1) / self.scale
        return features, self.head(features)

    def folded(self) -> Classifier:
        """The same network without batch normalisation, whose running statistics become part of the convolutions."""
        fused: list[nn.Module] = []
        for layer in self.eval().layers:
            if isinstance(layer, nn.BatchNorm2d):
                fused[-1] = fuse_conv_bn_eval(fused[-1], layer)  # type: ignore[type-var]
            else:
                fused.append(layer)
        plain = copy.deepcopy(self)
        plain.layers = nn.Sequential(*fused)
        return plain.eval()

    @torch.no_grad()
    def standardize(self, levels: Tensor) -> None:
        """Set `scale` from uint8 images, and undo it in the head, so that the logits do not change."""
        variance = torch.cat([self(block)[0] for block in torch.split(levels, 250)]).var(0)
        early = 0 if self.recipe == 1 else self.widths[-2]
        parts = [part.mean().expand_as(part) for part in (variance[:early], variance[early:]) if len(part)]
        deviation = torch.cat(parts).sqrt().clamp_min(LEAST_DEVIATION)
        self.scale *= deviation if self.scale.dim() else deviation[0]
        self.head.weight *= deviation


@torch.inference_mode()
def accuracy(model: Classifier, images: np.ndarray, labels: np.ndarray, indices: np.ndarray | None = None) -> float:
    """Share of uint8 images (N, C, H, W), or of those with these indices, whose most likely class is their label."""
    device = next(model.parameters()).device
    indices = np.arange(len(images)) if indices is None else indices
    right = 0
    for start in range(0, len(indices), 500):
        own = indices[start : start + 500]
        logits = model(torch.from_numpy(images[own]).to(device))[1]
        right += int((logits.argmax(1).cpu().numpy() == labels[own]).sum())
        store.release(images)
    return right / len(indices)


def save_classifier(file: Path, model: Classifier, **facts: Any) -> None:
    """Write the weights, then the JSON file that vouches for them."""
    weights = file.with_suffix(".safetensors")
    store.write_tensors(weights, model.state_dict())
    made = {
        "recipe": model.recipe, "shape": model.shape, "num_classes": model.num_classes, "dim": model.dim,
        "widths": model.widths,
    }  # fmt: skip
    known = Facts(**made, sha256=digests.file_digest(weights), **facts)
    write_sealed(file, known.model_dump(mode="json"))


def verify_classifier(file: Path) -> Facts:
    """The facts in the JSON file. Raises CorruptData if it has changed, or the weights beside it have."""
    local = file.name == LOCAL_FILE
    fix = removal(file.parent, then="then run again: it is trained anew") if local else "install genbench again"
    try:
        facts = Facts.model_validate(read_sealed(file, fix, required=False))
    except ValidationError as error:
        raise CorruptData(f"{file}: {first_line(error)}", fix) from error
    check_digest(file.with_suffix(".safetensors"), facts.sha256, file.name, fix)
    return facts


def load_classifier(file: Path, device: str = "cpu") -> tuple[Classifier, Facts]:
    """A stored classifier, ready to extract features, channels last for speed. Raises CorruptData."""
    facts = verify_classifier(file)
    model = Classifier(facts.shape, facts.num_classes, facts.dim, facts.widths, facts.recipe)
    try:
        model.load_state_dict(store.read_tensors(file.with_suffix(".safetensors")))
    except RuntimeError as error:
        raise CorruptData(f"{file}: the weights are not those of a classifier: {error}") from error
    return model.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last), facts
