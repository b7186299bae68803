"""Pixels: exact round trips, and 8 bits for what knows nothing."""

import math

import numpy as np
import pytest
import torch

from genbench.images import bits_per_dim, dequantize, misplaced, to_float, to_uint8
from genbench.model import Batch

LEVELS = torch.arange(256, dtype=torch.uint8)


def test_every_level_survives_the_round_trip():
    assert torch.equal(to_uint8(to_float(LEVELS)), LEVELS)


def test_dequantised_pixels_stay_inside_their_level():
    for seed in range(20):
        images = dequantize(LEVELS.repeat(100), torch.Generator().manual_seed(seed))
        assert images.min() >= -1 and images.max() < 1
        assert torch.equal(to_uint8(images), LEVELS.repeat(100))


def test_dequantisation_is_uniform_and_seeded():
    levels = torch.full((40_000,), 17, dtype=torch.uint8)
    noise = (dequantize(levels, torch.Generator().manual_seed(0)) + 1) * 128 - 17
    assert noise.mean().item() == pytest.approx(0.5, abs=0.01) and noise.var().item() == pytest.approx(1 / 12, rel=0.03)
    assert torch.equal(dequantize(levels, torch.Generator().manual_seed(0)), (noise + 17) / 128 - 1)


def test_values_outside_are_clamped():
    assert to_uint8(torch.tensor([-3.0, 1.0, 7.0])).tolist() == [0, 255, 255]


@pytest.mark.parametrize("dims", [1, 64, 3072])
def test_a_uniform_model_has_eight_bits(dims):
    density = torch.full((5,), -dims * math.log(2.0), dtype=torch.float64)
    levels = torch.full((5,), -dims * math.log(256.0), dtype=torch.float64)
    assert bits_per_dim(density, dims, discrete=False).sub(8).abs().max() < 1e-6
    assert bits_per_dim(levels, dims, discrete=True).sub(8).abs().max() < 1e-6


def test_a_narrower_density_has_fewer_bits():
    """All mass on one level of 256: a density of 128 on its bin, and no bits at all."""
    assert bits_per_dim(torch.tensor([64 * math.log(128.0)]), 64, discrete=False).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("discrete", [False, True])
def test_a_batch_of_levels_depends_on_its_seed_alone(discrete):
    levels = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)
    batch, again, other = (Batch.of_levels(levels, torch.arange(4), discrete, seed) for seed in (3, 3, 4))
    expected = to_float(levels) if discrete else dequantize(levels, torch.Generator().manual_seed(3))
    assert torch.equal(batch.images, expected) and torch.equal(batch.labels, torch.arange(4))
    assert torch.equal(batch.images, again.images) and torch.equal(batch.images, other.images) == discrete
    assert torch.equal(to_uint8(batch.images), levels)


# Ranges


def photographs(middle=110, count=100):
    """Levels around a gray, most of them dark."""
    return torch.from_numpy(np.random.default_rng(0).normal(middle, 40, (count, 3, 8, 8)).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("scale", [1 / 255, 1])
@pytest.mark.parametrize(
    "real", [photographs(), torch.zeros(80, 1, 8, 8, dtype=torch.uint8).index_fill(2, torch.tensor([3]), 255)]
)
def test_values_in_another_range_than_minus_one_to_one_are_told(real, scale):
    told = misplaced(real.float() * scale, real)
    assert "images in [-1, 1]" in told and f"[{float(real.min()) * scale:.3g}, {float(real.max()) * scale:.3g}]" in told


@pytest.mark.parametrize(
    "images",
    [
        to_float(photographs()),
        torch.zeros(100, 3, 8, 8),
        torch.full((100, 3, 8, 8), 0.7),
        torch.rand(100, 3, 8, 8) * 0.3,
        torch.randn(100, 3, 8, 8),
        1e4 * torch.randn(100, 3, 8, 8),
        1e6 * torch.rand(100, 3, 8, 8),
        photographs()[:20] / 255,
    ],
    ids=["right", "untrained", "constant", "narrow", "noise", "diverging", "diverging-up", "few"],
)
def test_bad_images_in_the_right_range_are_no_reason_to_stop(images):
    assert misplaced(images, photographs()) == ""


def test_bright_samples_of_bright_images_are_right():
    bright = photographs(230)
    assert misplaced(to_float(bright), bright) == ""
