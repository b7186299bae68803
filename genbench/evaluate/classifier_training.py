"""How a classifier is trained: by one recipe, whatever the images, sized by them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from genbench.devices import synchronize
from genbench.evaluate.augmentation import mirror_score, moved, pixel_statistics, spoilt
from genbench.evaluate.classifier import Classifier, size_for
from genbench.images import to_float
from genbench.optimizers import Muon
from genbench.schedules import warmup_linear
from genbench.support import store
from genbench.support.seeds import derive_seed

BATCH, SPOILT = 64, 18
"""Images per update, and of those the number that are seen a second time, spoilt."""
EPOCHS, LEAST_UPDATES, UPDATES = 20, 800, 2000
"""Passes over the training images, unless that is too few or too many updates."""
LEARNING_RATE, MATRIX_LEARNING_RATE, WEIGHT_DECAY = 2e-3, 0.02, 0.05
AVERAGED = 0.05
"""The share of the updates over which weights are averaged."""
LOOKS = 10
"""How often in the second half the averaged weights are tried on the held-out images."""
MIRRORED_BELOW = 0.6
"""The score of `mirror_score` below which mirroring is harmless."""
SURVEYED, SURVEYED_PIXELS = 5000, 2**26
"""Training images from which statistics are taken: at most so many, and of so many pixels together."""
TRIED = 3
"""Updates from which the time of all is told."""


@dataclass(frozen=True)
class Examples:
    """uint8 images (N, C, H, W) and int labels (N,), and which of them (indices) are trained on and held out."""

    images: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    held_out: np.ndarray

    def levels(self, indices: np.ndarray) -> Tensor:
        found = torch.from_numpy(np.ascontiguousarray(self.images[indices]))
        store.release(self.images)
        return found

    def targets(self, indices: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(self.labels[indices], dtype=np.int64))


def updates_for(images: int) -> int:
    """The number of updates for this many training images."""
    return min(UPDATES, max(LEAST_UPDATES, EPOCHS * images // BATCH))


def train_classifier(
    examples: Examples, num_classes: int, seed: int = 0, device: str = "cpu",
    progress: Callable[[float], None] | None = None,
) -> Classifier:  # fmt: skip
    """A classifier of the training images, from the update at which it was best at the held-out ones.

    Spoilt images are seen as what is of no class: the classes' target becomes uniform as an image is spoilt (outlier
    exposure, Hendrycks et al. 2019), and one output of the head tells how much it is. Weights are averaged, and those
    with the least cross-entropy of the held-out images are kept. Bit-identical for equal arguments, machine and number
    of threads; leaves torch's global generator alone.
    """
    training = Training(examples, num_classes, seed, device)
    updates = updates_for(len(examples.train))
    looks = {round(updates * (1 + look / LOOKS) / 2) for look in range(LOOKS + 1)}
    best = Best(examples, device)
    for update in range(updates):
        training.update(update / updates)
        if update + 1 in looks:
            best.consider(training.averaged.module)
        if progress is not None:
            progress((update + 1) / updates)
    training.model.load_state_dict(best.state)
    found = training.model.requires_grad_(False).folded()
    found.standardize(examples.levels(training.batches.known).to(device))
    return found


def seconds_to_train(examples: Examples, num_classes: int, device: str = "cpu") -> float:
    """How long `train_classifier` will take, from TRIED updates; nothing of them is kept."""
    training, began = Training(examples, num_classes, 0, device), 0.0
    for number in range(TRIED + 1):
        began = time.perf_counter() if number == 1 else began  # the first is slow
        training.update(0.5)
    synchronize(torch.device(device))
    each = (time.perf_counter() - began) / TRIED
    looked_at = (LOOKS + 1) * len(examples.held_out) / 3  # a look has no gradients, a third of an update's work
    return each * (updates_for(len(examples.train)) + looked_at / (BATCH + SPOILT))


class Training:
    """A classifier, its average and its optimizer, updated batch by batch."""

    def __init__(self, examples: Examples, num_classes: int, seed: int, device: str) -> None:
        shape, self.num_classes, self.device = examples.images.shape[1:], num_classes, device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "classifier"))
            model = Classifier(shape, num_classes, *size_for(shape, len(examples.train)), normalised=True)
        self.model = model.to(device).to(memory_format=torch.channels_last)
        window = max(2, AVERAGED * updates_for(len(examples.train)))
        averaging = get_ema_multi_avg_fn(1 - 1 / window)  # type: ignore[no-untyped-call]
        self.averaged = AveragedModel(self.model, multi_avg_fn=averaging, use_buffers=True)
        self.optimizer = Muon(self.model, LEARNING_RATE, MATRIX_LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        generator = torch.Generator().manual_seed(derive_seed(seed, "classifier data"))
        self.batches = Batches(examples, num_classes, generator)

    def update(self, share: float) -> None:
        """One step on the next batch, at this share of the training."""
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = rate * warmup_linear(share)
        self.optimizer.zero_grad()
        images, classes, spoiling = (tensor.to(self.device) for tensor in self.batches.draw())
        outputs = self.model.outputs(images.contiguous(memory_format=torch.channels_last))[1]
        loss = F.cross_entropy(outputs[:, : self.num_classes], classes)
        loss = loss + F.binary_cross_entropy_with_logits(outputs[:, self.num_classes], spoiling)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.averaged.update_parameters(self.model)


class Batches:
    """Batches of moved training images, some of them once more and spoilt, in a new order every epoch."""

    def __init__(self, examples: Examples, num_classes: int, generator: torch.Generator) -> None:
        self.examples, self.num_classes, self.generator = examples, num_classes, generator
        most = min(SURVEYED, max(2, SURVEYED_PIXELS // examples.images[0].size))
        chosen = torch.randperm(len(examples.train), generator=generator)[:most].numpy()
        self.known = np.sort(examples.train[chosen])
        """A sample of the training images, for statistics."""
        levels = examples.levels(self.known)
        self.pixels = pixel_statistics(to_float(levels))
        self.mirror = mirror_score(levels.numpy(), examples.labels[self.known]) < MIRRORED_BELOW
        self.left = np.empty(0, dtype=np.int64)

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, C, H, W), the probabilities of their classes (B, K), and how much each is spoilt (B,)."""
        while len(self.left) < BATCH:
            order = torch.randperm(len(self.examples.train), generator=self.generator).numpy()
            self.left = np.concatenate([self.left, self.examples.train[order]])
        own, self.left = self.left[:BATCH], self.left[BATCH:]
        images = moved(to_float(self.examples.levels(own)), self.mirror, self.generator)
        classes = F.one_hot(self.examples.targets(own), self.num_classes).float()
        harmed, share = spoilt(images[:SPOILT], *self.pixels, self.generator)
        uniform = torch.full_like(classes[:SPOILT], 1 / self.num_classes)
        faded = torch.lerp(classes[:SPOILT], uniform, share[:, None])
        return torch.cat([images, harmed]), torch.cat([classes, faded]), torch.cat([torch.zeros(BATCH), share])


class Best:
    """The weights with the least cross-entropy of the held-out images so far; the last ones if nothing is held out."""

    def __init__(self, examples: Examples, device: str) -> None:
        self.examples, self.device = examples, device
        self.least = float("inf")
        self.state: dict[str, Tensor] = {}

    @torch.inference_mode()
    def consider(self, model: nn.Module) -> None:
        total, held = 0.0, self.examples.held_out
        model.eval()
        for start in range(0, len(held), 500):
            own = held[start : start + 500]
            logits = model(self.examples.levels(own).to(self.device))[1].cpu()
            total += float(F.cross_entropy(logits, self.examples.targets(own), reduction="sum"))
        if total < self.least or not len(held):
            self.least = total
            self.state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
