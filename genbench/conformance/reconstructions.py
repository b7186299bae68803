"""Promises about what a first stage makes of given images."""

from __future__ import annotations

import torch
from torch import Tensor

from genbench.capabilities import Codebook, Reconstruction
from genbench.conformance.case import Case
from genbench.conformance.promise import NotApplicable, promise, require, require_images, require_no_gradients
from genbench.conformance.training import trains


@promise("reconstruct gives an image for every image", "reconstruct", trains)
def reconstructs(case: Case) -> str:
    if not isinstance(case.trained, Reconstruction):
        raise NotApplicable("no reconstruct()")
    found = case.reconstruct(case.trained)
    require_images(found, tuple(case.batch.images.shape), "reconstruct")
    outside = float((found.abs() > 1).float().mean())
    require(outside <= 0.5, f"{outside:.0%} of the values are outside [-1, 1], where the harness clips them")
    return f"mean squared error {float((found - case.batch.images).square().mean()):.3g}"


@promise("reconstruct leaves no gradients behind", "reconstruct", reconstructs)
def reconstructions_detached(case: Case) -> None:
    """It is called without gradients, which `torch.enable_grad()` turns on inside."""
    model = case.movable
    require_no_gradients(case.reconstruct(model), model, "reconstruct")


@promise("codes are whole numbers of the codebook", "codes", trains)
def codes(case: Case) -> str:
    model = case.trained.eval()
    if not isinstance(model, Codebook):
        raise NotApplicable("no codes() and codebook_size()")
    size = model.codebook_size()
    require(isinstance(size, int) and size > 0, f"codebook_size() is {size!r}", "codebook_size")
    torch.manual_seed(1)
    with torch.no_grad():
        found = model.codes(case.batch.images, case.batch.labels)
    require(isinstance(found, Tensor), f"codes() returns a {type(found).__name__}, not a tensor")
    require(found.dtype == torch.int64, f"codes() is {found.dtype}, not int64")
    count = len(case.batch)
    require(found.dim() > 0 and len(found) == count and found.numel() > 0,
            f"codes() of {count} images has shape {tuple(found.shape)}")  # fmt: skip
    low, high = int(found.min()), int(found.max())
    require(low >= 0 and high < size, f"codes from {low} to {high} of a codebook of {size}")
    return f"{len(set(found.flatten().tolist()))} of {size} codes used"
