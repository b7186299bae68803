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


def dequantize(levels: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform dequantisation (Theis et al. 2016): float32 in [-1, 1), each value inside its level's bin.

    The noise is one of 4,096 equidistant values inside the bin, since a float32 uniform in [0, 1) can round up to
    the next level. `generator` lives on the device of `levels`.
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
