"""How much of an image a first stage keeps; measured by `genbench.evaluate.reconstruction`, which needs the model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from genbench.metrics.jackknife import jackknife_error, members
from genbench.metrics.metric import Metric
from genbench.metrics.value import Value, with_error, with_notes

if TYPE_CHECKING:
    import numpy as np

RFID, PSNR, CODE_USE, PERPLEXITY = "rfid", "psnr", "code_use", "code_perplexity"
PIECE = 1000
"""Images compared at a time."""


def psnr(images: np.ndarray, reconstructions: np.ndarray) -> Value:
    """Peak signal-to-noise ratio, dB, of uint8 reconstructions (N, C, H, W): 10 log10(255^2 / MSE), mean over images.

    An image that is reconstructed exactly has infinite PSNR, which leaves the mean undefined. The error is over images.
    """
    import numpy as np

    errors = np.empty(len(images))
    for start in range(0, len(images), PIECE):
        ours, theirs = (side[start : start + PIECE].astype(np.float64) for side in (reconstructions, images))
        errors[start : start + PIECE] = np.square(ours - theirs).mean(axis=(1, 2, 3))
    if exact := int((errors == 0).sum()):
        told = f"{exact} of {len(errors)} images are reconstructed exactly, their PSNR is infinite"
        return Value(None, told, status="not_applicable")
    found = 10 * np.log10(255**2 / errors)
    value, count = Value(float(found.mean())), len(found)
    return with_error(value, float(found.std(ddof=1)) / math.sqrt(count), count - 1) if count > 1 else value


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
    Metric(CODE_USE, "codes used", "higher", "share", "test", "reconstruction", needs="codebook", places={"full": 92}),
    Metric(PERPLEXITY, "code perplexity", "higher", "rate", "test", "reconstruction", needs="codebook",
           places={"full": 93}),
)  # fmt: skip
