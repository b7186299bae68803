"""What a classifier sees beside the training images: shifted and mirrored images, which are still of their class, and
spoilt ones, which are of none.

Images are float (B, C, H, W) in [-1, 1]; all randomness is the generator's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from genbench.images import to_float, to_uint8

SHIFT = 1 / 8
TILES = 4


def mirror_score(images: np.ndarray, labels: np.ndarray) -> float:
    """How well an image and its mirror image are told apart: about 1/2 for photographs, far more for digits.

    What mirroring reverses (an image less its mirror image) is projected on its mean over half of the class; the score
    is the share of positive projections in the other half. Images (N, C, H, W) uint8, labels (N,); 1 if no class has
    two images.
    """
    positive = []
    for label in np.unique(labels):
        own = np.asarray(images[labels == label], dtype=np.float32)
        reversed_part = (own - own[..., ::-1]).reshape(len(own), -1)
        positive.append(reversed_part[1::2] @ reversed_part[::2].mean(0) > 0)
    found = np.concatenate(positive)
    return float(found.mean()) if len(found) else 1.0


def moved(images: Tensor, mirror: bool, generator: torch.Generator) -> Tensor:
    """The images, each shifted by up to an eighth of its sides, and half of them mirrored if `mirror`.

    Shifts are whole pixels, so that no image is blurred; the border is repeated.
    """
    count, _, height, width = images.shape
    rows = _shifted(height, count, generator)
    columns = _shifted(width, count, generator)
    if mirror:
        turned = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(turned, columns.flip(1), columns)
    each = torch.arange(count)[:, None, None]
    return images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _shifted(side: int, count: int, generator: torch.Generator) -> Tensor:
    """Indices (count, side) of rows or columns after a shift each."""
    most = max(1, round(side * SHIFT))
    shift = torch.randint(-most, most + 1, (count, 1), generator=generator)
    return (torch.arange(side) + shift).clamp(0, side - 1)


def spoilt(images: Tensor, mean: Tensor, deviation: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The images, each spoilt in one of several ways, and how much (B,) in [0, 1]: 0 leaves an image, 1 leaves nothing.

    The ways are those of `WAYS`, in equal shares. `mean` and `deviation` (C, H, W) are those of each pixel.
    """
    share = torch.rand(len(images), generator=generator)
    found = images.clone()
    for number, way in enumerate(WAYS):
        own = slice(number, None, len(WAYS))
        if len(images[own]):
            found[own] = way(images, own, share[own, None, None, None], (mean, deviation), generator)
    return to_float(to_uint8(found)), share


Way = Callable[[Tensor, slice, Tensor, tuple[Tensor, Tensor], torch.Generator], Tensor]


def _uniform(images: Tensor, own: slice, share: Tensor, pixels: tuple[Tensor, Tensor], rng: torch.Generator) -> Tensor:
    return torch.lerp(images[own], torch.rand(images[own].shape, generator=rng) * 2 - 1, share)


def _gaussian(images: Tensor, own: slice, share: Tensor, pixels: tuple[Tensor, Tensor], rng: torch.Generator) -> Tensor:
    mean, deviation = pixels
    return torch.lerp(images[own], mean + deviation * torch.randn(images[own].shape, generator=rng), share)


def _noisy(images: Tensor, own: slice, share: Tensor, pixels: tuple[Tensor, Tensor], rng: torch.Generator) -> Tensor:
    return images[own] + share * torch.randn(images[own].shape, generator=rng)


def _blurred(images: Tensor, own: slice, share: Tensor, pixels: tuple[Tensor, Tensor], rng: torch.Generator) -> Tensor:
    height, width = images.shape[2:]
    return blur(images[own], share.flatten() * min(height, width) / 8)


def _averaged(images: Tensor, own: slice, share: Tensor, pixels: tuple[Tensor, Tensor], rng: torch.Generator) -> Tensor:
    return torch.lerp(images[own], pixels[0].expand_as(images[own]), share)


def _faded(images: Tensor, own: slice, share: Tensor, pixels: tuple[Tensor, Tensor], rng: torch.Generator) -> Tensor:
    return torch.lerp(images[own], images[own].mean((2, 3), keepdim=True), share)


def _blended(images: Tensor, own: slice, share: Tensor, pixels: tuple[Tensor, Tensor], rng: torch.Generator) -> Tensor:
    return torch.lerp(images[own], images.roll(1, 0)[own], share / 2)


def _pixels(images: Tensor, own: slice, share: Tensor, pixels: tuple[Tensor, Tensor], rng: torch.Generator) -> Tensor:
    flat = images[own].flatten(2)
    source = _shuffled(len(flat), flat.shape[2], share[:, 0, 0], rng)
    return flat.gather(2, source[:, None].expand_as(flat)).view_as(images[own])


def _tiles(images: Tensor, own: slice, share: Tensor, pixels: tuple[Tensor, Tensor], rng: torch.Generator) -> Tensor:
    found = images[own].clone()
    count, channels, height, width = found.shape
    tall, wide = height // TILES, width // TILES
    covered = found[:, :, : tall * TILES, : wide * TILES]
    tiles = covered.reshape(count, channels, TILES, tall, TILES, wide).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    source = _shuffled(count, TILES * TILES, share[:, 0, 0], rng)
    tiles = tiles[torch.arange(count)[:, None], source].reshape(count, TILES, TILES, channels, tall, wide)
    covered.copy_(tiles.permute(0, 3, 1, 4, 2, 5).reshape(covered.shape))
    return found


WAYS: tuple[Way, ...] = (_uniform, _blurred, _gaussian, _blended, _noisy, _averaged, _pixels, _tiles, _faded)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """The images, each blurred by a Gaussian of its own width in pixels (B,), normalised at the border."""
    kernels = []
    for side in images.shape[2:]:
        place = torch.arange(side, dtype=images.dtype)
        distance = (place[:, None] - place).square()
        kernels.append(torch.softmax(-distance / (2 * sigma.clamp(min=1e-2).square())[:, None, None], 2)[:, None])
    return kernels[0] @ images @ kernels[1].mT


def _shuffled(count: int, places: int, share: Tensor, generator: torch.Generator) -> Tensor:
    """Indices (count, places) in which a share (count, 1) of the places is shuffled and all others are in place."""
    chosen = torch.rand(count, places, generator=generator) < share
    mixed = torch.where(chosen, torch.rand(count, places, generator=generator), 2).argsort(dim=1, stable=True)
    ordered = torch.where(chosen, torch.zeros(()), 2).argsort(dim=1, stable=True)
    return torch.empty_like(mixed).scatter_(1, ordered, mixed)


def pixel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C, H, W) of every pixel of the images."""
    return images.mean(0), images.std(0, correction=0)
