"""LPIPS (Zhang et al. 2018): how different two images look to a network that was trained on ImageNet.

Its weights are two published files that the user has: VGG-16's, and those that LPIPS learned from human judgements.
Nothing is downloaded.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.evaluate.weights import find_published, pinned

VGG = "vgg16"
"""The extractor with the same network."""
HEADS: Mapping[str, Any] = {
    "file": "lpips-vgg16-v0.1.pth",
    "url": (
        "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/"
        "082bb24f84c091ea94de2867d34c4544f68e0963/lpips/weights/v0.1/vgg.pth"
    ),
    "sha256": "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
}
DECLARED = "VGG-16 trained on ImageNet, with the heads of LPIPS trained on human judgements: the perceptual loss"
SLICES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""VGG-16's convolutions by their places; between slices the sides are halved, and after each of them heads look."""
SMALLEST_SIDE = 16
"""Pixels a side, of which the last slice has one."""
ELSEWHERE = "or into a folder named by GENBENCH_WEIGHTS; or train without it, perceptual=0"


class LPIPS(nn.Module):
    """Images (B, 1 or 3, H, W) in [-1, 1] and others to their distances (B,), which can be differentiated.

    Squared differences of features of unit length, weighted by heads, means over places, sums over slices (Zhang et al.
    2018, equation 1). The weights are constants, hence neither parameters nor in checkpoints.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, vgg: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> None:
        """`vgg` and `heads` are tensors by the names that they have in the published files."""
        super().__init__()
        for place in (place for places in SLICES for place in places):
            self.keep(f"weight{place}", vgg[f"features.{place}.weight"])
            self.keep(f"bias{place}", vgg[f"features.{place}.bias"])
        for number in range(len(SLICES)):
            self.keep(f"head{number}", heads[f"lin{number}.model.1.weight"])
        self.keep("mean", 2 * torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1) - 1)  # of ImageNet, in [-1, 1]
        self.keep("deviation", 2 * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def keep(self, name: str, tensor: Tensor) -> None:
        self.register_buffer(name, tensor.detach().float(), persistent=False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Of each slice, float32 of unit length at every place."""
        x = (images.expand(-1, 3, -1, -1) - self.mean) / self.deviation
        found = []
        for number, places in enumerate(SLICES):
            if number:
                x = F.max_pool2d(x, 2)
            for place in places:
                x = F.relu(F.conv2d(x, self.get_buffer(f"weight{place}"), self.get_buffer(f"bias{place}"), padding=1))
            found.append(F.normalize(x.float(), dim=1, eps=1e-10))
        return found

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        pairs = enumerate(zip(self.features(images), self.features(others)))
        distances = [self.get_buffer(f"head{number}") * (a - b).square() for number, (a, b) in pairs]
        return torch.stack([each.sum(1).mean((1, 2)) for each in distances]).sum(0)


def load_lpips() -> LPIPS:
    """LPIPS with the published weights. Raises EnvironmentProblem or CorruptData."""
    return LPIPS(_tensors("LPIPS's VGG-16", pinned()[VGG]), _tensors("LPIPS", HEADS))


def _tensors(name: str, about: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a published file, by name."""
    named = os.environ.get("GENBENCH_WEIGHTS")
    folder = Path(named) if named and Path(named).is_dir() else None
    file = find_published(name, dict(about), ELSEWHERE, folder, offline=True)
    found: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251  published, verified by its digest
    return found
