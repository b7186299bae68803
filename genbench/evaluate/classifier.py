"""A small convolutional classifier whose penultimate layer is the feature space for datasets unlike ImageNet.

A JSON file describes a trained one (`Facts`); the safetensors file beside it holds its weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.images import to_float
from genbench.optimizers import adamw
from genbench.schedules import warmup_cosine
from genbench.support import digests, store
from genbench.support.errors import Busy, CorruptData, first_line, removal
from genbench.support.lock import locked
from genbench.support.progress import report, stop_if_requested
from genbench.support.sealed import check_digest, read_sealed, write_sealed
from genbench.support.seeds import derive_seed

if TYPE_CHECKING:
    from genbench.data.dataset import Dataset

RECIPE = 1
"""Version of architecture and training; raise it when the same images would give a different classifier."""
DIM = 64
WIDTHS = (32, 64, 96, 128)
UPDATES, BATCH, LEARNING_RATE, WEIGHT_DECAY = 5000, 64, 2e-3, 0.05
ROTATION, SHIFT, SCALE = math.radians(10), 0.07, 0.08
SCALE_IMAGES = 1000
LOCAL_FILE = "classifier.json"


class Facts(BaseModel):
    """A trained classifier's architecture, origin, accuracy, and the SHA-256 of its weights."""

    model_config = ConfigDict(frozen=True, extra="allow")

    about: str
    recipe: int
    shape: tuple[int, int, int]
    num_classes: int
    dim: int
    trained_on: str
    train_images: int
    test_accuracy: float | None = None
    sha256: str


class Classifier(nn.Module):
    """Pairs of 3x3 convolutions that halve the side, a feature layer, its mean over space, and a linear head.

    There is no normalisation: features do not depend on the rest of the batch and keep the contrast. `scale` makes
    their mean variance over training images 1, so that distances are comparable across domains.
    """

    def __init__(self, shape: tuple[int, int, int], num_classes: int, dim: int = DIM) -> None:
        super().__init__()
        self.shape, self.dim, self.num_classes = shape, dim, num_classes
        channels, height, width = shape
        layers: list[nn.Module] = []
        for wider in WIDTHS[: max(2, int(math.log2(min(height, width) / 4)))]:
            layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.SiLU()]
            layers += [nn.Conv2d(wider, wider, 3, padding=1), nn.SiLU()]
            channels = wider
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, dim, 3, padding=1), nn.SiLU())
        self.head = nn.Linear(dim, num_classes)
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(()))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, dim) and logits (B, num_classes) of uint8 images (B, C, H, W)."""
        return self.classify(to_float(levels))

    def classify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, for float images in [-1, 1]."""
        features = self.layers(images).mean((2, 3)) / self.scale
        return features, self.head(features)

    @torch.no_grad()
    def standardize(self, levels: Tensor) -> None:
        """Set `scale` from uint8 images, and undo it in the head, so that the logits do not change."""
        deviation = self(levels)[0].var(0).mean().sqrt()
        self.scale *= deviation
        self.head.weight *= deviation


def train_classifier(
    images: np.ndarray, labels: np.ndarray, num_classes: int, seed: int = 0, device: str = "cpu",
    progress: Callable[[float], None] | None = None,
) -> Classifier:  # fmt: skip
    """Train a classifier on uint8 images (N, C, H, W) and int labels (N,), by the same recipe for every dataset.

    Bit-identical for equal arguments, machine and number of threads; leaves torch's global generator alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "classifier"))
        model = Classifier(images.shape[1:], num_classes).to(device)
    generator = torch.Generator().manual_seed(derive_seed(seed, "classifier data"))
    targets = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    optimizer = adamw(model, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for update in range(UPDATES):
        chosen = torch.randint(len(images), (BATCH,), generator=generator)
        batch = augment(torch.from_numpy(images[chosen.numpy()]), generator).to(device)
        store.release(images)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * warmup_cosine(update / UPDATES)
        optimizer.zero_grad()
        loss = F.cross_entropy(model.classify(batch)[1], targets[chosen].to(device))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if progress is not None:
            progress((update + 1) / UPDATES)
    sample = torch.randperm(len(images), generator=generator)[:SCALE_IMAGES]
    model.standardize(torch.from_numpy(images[sample.numpy()]).to(device))
    return model.eval().requires_grad_(False)


def augment(levels: Tensor, generator: torch.Generator) -> Tensor:
    """Float images, each slightly rotated, shifted and scaled; never mirrored, which would change a digit."""
    turn, grow, right, down = torch.rand(4, len(levels), generator=generator) * 2 - 1
    cosine, sine = torch.cos(turn * ROTATION), torch.sin(turn * ROTATION)
    scale, right, down = 1 + grow * SCALE, right * 2 * SHIFT, down * 2 * SHIFT
    rows = [
        torch.stack([cosine * scale, -sine * scale, right], 1),
        torch.stack([sine * scale, cosine * scale, down], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(levels.shape), align_corners=False)
    return F.grid_sample(to_float(levels), grid, padding_mode="border", align_corners=False)


@torch.inference_mode()
def accuracy(model: Classifier, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of uint8 images (N, C, H, W) whose most likely class is their label."""
    device = next(model.parameters()).device
    right = 0
    for start in range(0, len(images), 500):
        logits = model(torch.from_numpy(np.ascontiguousarray(images[start : start + 500])).to(device))[1]
        right += int((logits.argmax(1).cpu().numpy() == labels[start : start + 500]).sum())
        store.release(images)
    return right / len(images)


def save_classifier(file: Path, model: Classifier, **facts: Any) -> None:
    """Write the weights, then the JSON file that vouches for them."""
    weights = file.with_suffix(".safetensors")
    store.write_tensors(weights, model.state_dict())
    made = {"recipe": RECIPE, "shape": model.shape, "num_classes": model.num_classes, "dim": model.dim}
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
    model = Classifier(facts.shape, facts.num_classes, facts.dim)
    try:
        model.load_state_dict(store.read_tensors(file.with_suffix(".safetensors")))
    except RuntimeError as error:
        raise CorruptData(f"{file}: the weights are not those of a classifier: {error}") from error
    return model.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last), facts


def local_file(digest: str, cache: Path) -> Path:
    """Where the facts of the classifier of the dataset with this digest are, or will be."""
    return cache / "classifiers" / f"{digest[:32]}-{RECIPE}" / LOCAL_FILE


def local_classifier(dataset: Dataset, cache: Path, device: str = "cpu") -> Path:
    """The JSON file of the dataset's classifier, trained on first use and cached by the dataset's digest.

    A second process that needs it at the same time waits for the first.
    """
    assert dataset.train.labels is not None
    file = local_file(dataset.digest, cache)
    with _locked(file.parent):
        if not file.exists():
            images, labels = dataset.train.images, dataset.train.labels
            model = train_classifier(images, labels, dataset.num_classes, 0, device, _training)
            tested = None
            if dataset.test.labels is not None:
                tested = accuracy(model, dataset.test.images, dataset.test.labels)
            save_classifier(
                file, model, about=f"trained here on {dataset.name}", trained_on=dataset.digest,
                train_images=len(dataset.train), test_accuracy=tested,
            )  # fmt: skip
    return file


def _training(share: float) -> None:
    stop_if_requested()
    report("evaluate", share, "training the local classifier")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    while True:
        try:
            with locked(folder):
                yield
                return
        except Busy:
            stop_if_requested()
            time.sleep(0.5)
