"""Pixels: the one place that converts between stored uint8 and the floats that models see.

Images are float NCHW in [-1, 1] inside and uint8 NCHW on disk. Level y of 256 covers [y/128 - 1, (y + 1)/128 - 1).
"""

import math

import torch
from torch import Tensor

LEVELS = 256
DEQUANTIZE_LEVELS = 4096


def to_float(levels: Tensor) -> Tensor:
    """Bin centres in (-1, 1), float32, of uint8 levels of any shape; `to_uint8` restores the levels exactly."""
    return (levels.float() + 0.5) / 128 - 1


def dequantize(levels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Uniform dequantisation (Theis et al. 2016): float32 in [-1, 1), each value inside its level's bin.

    The noise is one of 4,096 equidistant values inside the bin, since a float32 uniform in [0, 1) can round up to
    the next level. `generator` lives on the device of `levels`; None is torch's own, for a model's use.
    """
    noise = torch.randint(0, DEQUANTIZE_LEVELS, levels.shape, generator=generator, device=levels.device)
    return (levels.float() + (noise.float() + 0.5) / DEQUANTIZE_LEVELS) / 128 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Levels of float images: floor((x + 1) * 128), clamped to 0..255. The caller checks that x is finite."""
    return ((images.float() + 1) * 128).floor().clamp(0, LEVELS - 1).to(torch.uint8)


def bits_per_dim(log_prob: Tensor, dims: int, discrete: bool) -> Tensor:
    """Bits per dimension from nats per image.

    A density on [-1, 1) counts bins of width 2/256, hence -log2 p(x)/D + 7; a discrete model returns log P(y), hence
    -log2 P(y)/D. A uniform model gives 8 either way.
    """
    bits = -log_prob.double() / (dims * math.log(2))
    return bits if discrete else bits + math.log2(LEVELS / 2)


LEAST_RANGED = 64
"""Images from which on a range says something."""
DARK = -0.1


def misplaced(images: Tensor, real: Tensor) -> str:
    """How the range of float `images` (N, C, H, W) shows that they are no images in [-1, 1], with numbers; "" if not.

    `real` are uint8 images to compare with. Two ranges are told: [0, 255], with large values of one sign, and [0, 1]:
    LEAST_RANGED images that reach from 0 to 1 without a dark value, where real ones have many, and whose mean is at
    most half as far from the real one once it is moved to [-1, 1]. Images of one gray, bright ones if the real ones are
    bright, and values that diverge are no sign.
    """
    low, high = float(images.min()), float(images.max())
    told = f"values lie in [{low:.3g}, {high:.3g}], images in [-1, 1]: does the model bring them there? "
    if low >= -0.05 * high and 16 <= high <= 300:
        return told + "Levels y of 0 to 255 become y / 127.5 - 1"
    if len(images) < LEAST_RANGED or low < DARK or high > 1.1 or high - max(low, 0) < 0.5:
        return ""
    truth = to_float(real)
    mean, wanted = images.float().mean(0), truth.mean(0).to(images.device)
    here, there = (float((moved - wanted).square().mean().sqrt()) for moved in (mean, 2 * mean - 1))
    dark = float((truth < DARK).float().mean())
    if dark < 0.1 or there > here / 2:
        return ""
    return told + f"{dark:.0%} of the training images' values are below {DARK}. Values x of 0 to 1 become 2 x - 1"
