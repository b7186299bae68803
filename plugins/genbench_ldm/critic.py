"""The critic of a first stage: it tells patches of images from patches of reconstructions (Esser et al. 2021, 3.1)."""

import torch
from torch import Tensor, nn

BETAS = (0.5, 0.9)
"""Of its Adam, as published."""
LARGEST_WEIGHT = 1e4


def smallest_side(layers: int) -> int:
    """The least height and width of images that a critic of so many layers can score."""
    return int(3 * 2**layers)


class PatchCritic(nn.Module):
    """Images (B, C, H, W) to scores of overlapping patches, (B, 1, h, w).

    `layers` convolutions of stride 2, the first to `width` channels and each to twice as many, at most to eight times
    the width; one more of stride 1, and one that scores. Batch normalisation uses the statistics of a batch, of real
    images or of reconstructions, and keeps none: nothing is scored after training. Source: Isola et al. 2017, 6.1.2,
    in the size of the code of Esser et al. 2021 (2,765,633 parameters for 3 layers of width 64 and colour images).
    """

    def __init__(self, channels: int, width: int, layers: int) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(layers + 1)]
        found: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for level in range(1, layers + 1):
            stride = 2 if level < layers else 1
            found += [
                nn.Conv2d(widths[level - 1], widths[level], 4, stride, 1, bias=False),
                nn.BatchNorm2d(widths[level], track_running_stats=False),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*found, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 0.0 if isinstance(layer, nn.Conv2d) else 1.0, 0.02)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.layers(images)
        return scores.float()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last: Tensor) -> Tensor:
    """|gradient of the reconstruction loss| / |gradient of the adversarial loss| with respect to the `last` weights.

    With it both losses pull equally hard at the decoder's last layer. Source: Esser et al. 2021, section 3.1, with the
    constants of the authors' code.
    """
    losses = (reconstruction, adversarial)
    pulls = [torch.linalg.vector_norm(torch.autograd.grad(loss, last, retain_graph=True)[0]) for loss in losses]
    weight: Tensor = (pulls[0] / (pulls[1] + 1e-4)).clamp(0, LARGEST_WEIGHT).detach()
    return weight
