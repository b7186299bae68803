"""Real images spoilt on purpose, in rising strength: what a metric must see before it may rank models.

Each control takes uint8 images (N, C, H, W) and gives as many. Lengths are shares of the shorter side, so that
strengths mean the same at every size.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Spoil = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
Loss = Literal["fidelity", "diversity", "classes", "everything"]
"""What a control takes away: how real each image looks, how much the images differ, whole classes, or everything."""
REAL, HALVES, COPIES, NOISE = "real", "test halves", "copies", "noise"
"""Held-out real images; halves of the test images; training images; uniform noise."""
GRAY = 127.5


@dataclass(frozen=True)
class Control:
    """One way of spoiling images: `strengths` rise, and `told` says one in words."""

    name: str
    spoil: Spoil
    strengths: tuple[float, ...]
    told: str
    loss: Loss = "fidelity"

    def words(self, strength: float) -> str:
        return self.told.format(strength)


def levels(values: np.ndarray) -> np.ndarray:
    """Values rounded to uint8 levels."""
    found: np.ndarray = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return found


def blur(images: np.ndarray, sigma: float, random: np.random.Generator) -> np.ndarray:
    """A Gaussian blur of this deviation, as a share of the side."""
    from scipy.ndimage import gaussian_filter

    width = sigma * min(images.shape[2:])
    return levels(gaussian_filter(images.astype(np.float32), (0, 0, width, width), mode="nearest"))


def add_noise(images: np.ndarray, sigma: float, random: np.random.Generator) -> np.ndarray:
    """Independent Gaussian noise of this deviation, in levels."""
    return levels(images + sigma * random.standard_normal(images.shape, dtype=np.float32))


def compress(images: np.ndarray, loss: float, random: np.random.Generator) -> np.ndarray:
    """JPEG of quality 100 - loss."""
    from PIL import Image

    spoilt = np.empty_like(images)
    for index, image in enumerate(images):
        picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
        with io.BytesIO() as file:
            picture.save(file, "JPEG", quality=int(100 - loss))
            decoded = np.asarray(Image.open(file))
        spoilt[index] = decoded if len(image) == 1 else decoded.transpose(2, 0, 1)
    return spoilt


def occlude(images: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """A gray square over this share of each image, anywhere."""
    count, _, height, width = images.shape
    tall, wide = (max(1, round(side * share**0.5)) for side in (height, width))
    spoilt = images.copy()
    for image, top, left in zip(
        spoilt, random.integers(0, height - tall + 1, count), random.integers(0, width - wide + 1, count)
    ):
        image[:, top : top + tall, left : left + wide] = round(GRAY)
    return spoilt


def flatten(images: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Contrast reduced by this share, towards gray."""
    return levels(GRAY + (1 - share) * (images - GRAY))


def shuffle(images: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """This share of each image's pixels, in another order."""
    count, channels, height, width = images.shape
    spoilt = images.reshape(count, channels, height * width).copy()
    size = max(2, round(share * height * width))
    for image in spoilt:
        places = random.permutation(height * width)[:size]
        image[:, places] = image[:, random.permutation(places)]
    return spoilt.reshape(images.shape)


def fade(images: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """A blend with the mean image, which gets this share."""
    return levels((1 - share) * images + share * images.mean(0, dtype=np.float64))


def repeat(images: np.ndarray, times: float, random: np.random.Generator) -> np.ndarray:
    """The first images only, each this many times."""
    return images[np.arange(len(images)) % max(1, round(len(images) / times))]


def pixelwise_gaussian(images: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """Independent pixels, each with the images' own mean and deviation."""
    mean, deviation = images.mean(0, dtype=np.float64), images.std(0, dtype=np.float64)
    return levels(mean + deviation * random.standard_normal(images.shape, dtype=np.float32))


def uniform_noise(images: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """Independent uniform levels."""
    return random.integers(0, 256, images.shape, dtype=np.uint8)


def leave_out(labels: np.ndarray, num_classes: int, share: float) -> np.ndarray:
    """The places of the labels (N,) that stay when the last classes, this share of all, are left out."""
    return np.flatnonzero(labels < num_classes - round(share * num_classes))


CONTROLS = (
    Control("blur", blur, (1 / 28, 1 / 14, 1 / 7), "σ {:.2f} of the side"),
    Control("added noise", add_noise, (20, 50, 120), "σ {:.0f} levels"),
    Control("JPEG", compress, (80, 93, 99), "{:.0f} % lossy"),
    Control("occlusion", occlude, (1 / 16, 1 / 6, 1 / 2), "{:.0%} covered"),
    Control("contrast", flatten, (0.2, 0.4, 0.8), "{:.0%} lost"),
    Control("shuffled pixels", shuffle, (0.1, 0.3, 1.0), "{:.0%} moved"),
    Control("mean image", fade, (0.2, 0.4, 0.7), "{:.0%} mean"),
    Control("repeats", repeat, (3, 10, 40), "{:.0f} times", "diversity"),
    Control("pixelwise Gaussian", pixelwise_gaussian, (1,), "independent pixels", "everything"),
    Control(NOISE, uniform_noise, (1,), "uniform", "everything"),
)
CLASSES, CLASS_SHARES = "classes left out", (0.2, 0.5)
"""Which images stay depends on their labels: `leave_out`."""
LOSSES: dict[str, Loss] = {CLASSES: "classes", **{control.name: control.loss for control in CONTROLS}}
"""What each control takes away, by name."""
