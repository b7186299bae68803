"""PSNR and SSIM are those of torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from genbench.metrics.answers import Answers
from genbench.metrics.reconstruction import psnr, ssim

PEAK, TOLERANCE = 255.0, 1e-5  # they keep constants in float32


def pair(count=6, shape=(3, 24, 19), noise=20.0):
    """Levels, and the same under noise."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, *shape), dtype=np.uint8)
    return images, (images + random.normal(0, noise, images.shape)).round().clip(0, 255).astype(np.uint8)


def tensor(images):
    return torch.from_numpy(images).double()


@pytest.mark.parametrize("shape", [(3, 24, 19), (1, 28, 28), (1, 11, 11)])
def test_ssim(shape):
    images, others = pair(shape=shape)
    _, theirs = structural_similarity_index_measure(
        tensor(others), tensor(images), data_range=PEAK, return_full_image=True
    )
    inside = theirs[..., 5:-5, 5:-5]  # where the window fits: beyond, they mirror the images
    assert ssim(images, others).value == pytest.approx(float(inside.mean()), abs=TOLERANCE)


def test_psnr_of_images_one_by_one():
    images, others = pair()
    theirs = [peak_signal_noise_ratio(tensor(y), tensor(x), data_range=PEAK) for x, y in zip(images, others)]
    assert psnr(images, others).value == pytest.approx(float(torch.stack(theirs).mean()), abs=TOLERANCE)


def test_psnr_of_all_samples_in_the_hole():
    originals, _ = pair(count=5)
    samples = np.stack([pair(count=5, noise=noise)[1] for noise in (5, 10, 40)], axis=1)
    hidden = np.zeros(originals.shape, bool)
    hidden[..., 9:] = True
    found = Answers(samples.reshape(5, 3, -1), originals.reshape(5, -1), hidden.reshape(5, -1)).psnr()
    truth = np.repeat(originals[:, None], 3, axis=1)
    theirs = peak_signal_noise_ratio(tensor(samples)[..., 9:], tensor(truth)[..., 9:], data_range=PEAK)
    assert found.value == pytest.approx(float(theirs), abs=TOLERANCE)
