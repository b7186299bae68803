"""How much of an image a first stage keeps; measured by `genbench.evaluate.reconstruction`, which needs the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genbench.metrics.jackknife import jackknife_error, members
from genbench.metrics.metric import Metric
from genbench.metrics.pieces import in_pieces
from genbench.metrics.value import Value, mean_of, with_error, with_notes

if TYPE_CHECKING:
    import numpy as np

RFID, PSNR, SSIM, CODE_USE, PERPLEXITY = "rfid", "psnr", "ssim", "code_use", "code_perplexity"
SSIM_WINDOW, SSIM_DEVIATION = 11, 1.5
"""Pixels a side, and of the Gaussian within."""


def psnr(images: np.ndarray, reconstructions: np.ndarray) -> Value:
    """Peak signal-to-noise ratio, dB, of uint8 reconstructions (N, C, H, W): 10 log10(255^2 / MSE), mean over images.

    An image that is reconstructed exactly has infinite PSNR, which leaves the mean undefined. The error is over images.
    """
    import numpy as np

    errors = in_pieces(lambda x, y: np.square(y - x).mean(axis=(1, 2, 3)), images, reconstructions)
    if exact := int((errors == 0).sum()):
        told = f"{exact} of {len(errors)} images are reconstructed exactly, their PSNR is infinite"
        return Value(None, told, status="not_applicable")
    return mean_of(10 * np.log10(255**2 / errors))


def ssim(images: np.ndarray, reconstructions: np.ndarray) -> Value:
    """Structural similarity of uint8 reconstructions (N, C, H, W), mean over places and channels, then over images.

    1 for equal images. Local moments are weighted by a Gaussian of deviation 1.5 in a window of 11x11, which is laid
    wherever it fits; smaller images have no value. Source: Wang et al. 2004, "Image quality assessment: from error
    visibility to structural similarity", equation 13, with K_1 = 0.01 and K_2 = 0.03.
    """
    from scipy.ndimage import gaussian_filter

    reach = SSIM_WINDOW // 2
    if min(images.shape[2:]) < SSIM_WINDOW:
        told = f"images of {images.shape[2]}x{images.shape[3]} are smaller than its window, {SSIM_WINDOW}x{SSIM_WINDOW}"
        return Value(None, told, status="not_applicable")

    def local(values: np.ndarray) -> np.ndarray:
        means: np.ndarray = gaussian_filter(values, SSIM_DEVIATION, radius=reach, axes=(2, 3))
        return means[..., reach:-reach, reach:-reach]

    def similarity(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        mean_x, mean_y = local(x), local(y)
        variances = local(x * x) - mean_x**2 + local(y * y) - mean_y**2
        covariance = local(x * y) - mean_x * mean_y
        means, contrast = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        index: np.ndarray = (2 * mean_x * mean_y + means) * (2 * covariance + contrast)
        index /= (mean_x**2 + mean_y**2 + means) * (variances + contrast)
        found: np.ndarray = index.mean(axis=(1, 2, 3))
        return found

    return mean_of(in_pieces(similarity, images, reconstructions))


def codebook_metrics(codes: np.ndarray, size: int, error_splits: int = 0, seed: int = 2020) -> dict[str, Value]:
    """The share of a codebook's `size` codes that occur in `codes`, int64 (N, ...), and their perplexity.

    The perplexity is exp H of the codes' frequencies, at most `size`, reached if all are used equally (van den Oord
    et al. 2017, section 4; Esser et al. 2021). The errors are over `error_splits` random splits of the images into
    halves (genbench.metrics.jackknife).
    """
    codes = codes.reshape(len(codes), -1)
    share, perplexity = _used(codes, size)
    few = f"{codes.size:,} positions for {size:,} codes: not all codes can occur" if codes.size < size else ""
    found = {CODE_USE: Value(share), PERPLEXITY: Value(perplexity)}
    if error_splits and len(codes) > 1:
        halves = [_used(codes[half.numpy()], size) for half in members(len(codes), error_splits, 2, seed).T]
        for (name, value), (low, high), values in zip(found.items(), ((0, 1), (1, size)), zip(*halves)):
            found[name] = with_error(value, _error(values), error_splits, low, high)
    return {name: with_notes(value, few) for name, value in found.items()}


def _used(codes: np.ndarray, size: int) -> tuple[float, float]:
    """Share of the codes that occur, and perplexity."""
    import numpy as np

    counts = np.bincount(codes.ravel(), minlength=size)
    shares = counts[counts > 0] / counts.sum()
    return len(shares) / size, min(float(np.exp(-(shares * np.log(shares)).sum())), size)


def _error(values: tuple[float, ...]) -> float:
    import torch

    return jackknife_error(torch.tensor(values), 2)


METRICS = (
    Metric(RFID, "rFID", style="fid", split="test", family="reconstruction", needs="reconstruction",
           judged_as="fid_test", places={"full": 90}),
    Metric(PSNR, "PSNR, dB", "higher", "score", "test", "reconstruction", needs="reconstruction", places={"full": 91}),
    Metric(SSIM, "SSIM", "higher", "share", "test", "reconstruction", needs="reconstruction", places={"full": 92}),
    Metric(CODE_USE, "codes used", "higher", "share", "test", "reconstruction", needs="codebook", places={"full": 93}),
    Metric(PERPLEXITY, "code perplexity", "higher", "rate", "test", "reconstruction", needs="codebook",
           places={"full": 94}),
)  # fmt: skip
