"""The network of the first diffusion model (Sohl-Dickstein et al. 2015), which is blind to the time until its readout.

    f(x_t, t) = sum_k b_k(t) z_k(x_t)

Convolutions and a dense network look at the noisy image side by side, a network that is the same for every pixel joins
what they found into the images z_k, and only the weights b_k know t: bumps, each of which has its own span of the time.
Source: appendix D.2.1, equations 62 and 63; initialisation and leaky rectifiers are those of the authors' code.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from genbench import Config, field

LEAK = 0.05
ONLY = {"network": ["original"]}


class OriginalConfig(Config):
    """The settings of the network of 2015."""

    branch_layers: int = field(4, "train", "layers of the convolutions, and of the dense branch", ge=1, only_with=ONLY)
    conv_width: int = field(16, "train", "channels of the convolutions", ge=1, only_with=ONLY)
    dense_width: int = field(300, "train", "units of the dense branch; 0: no such branch", ge=0, only_with=ONLY)
    dense_outputs: int = field(2, "train", "values per pixel from the dense branch", ge=1, only_with=ONLY)
    pixel_layers: int = field(2, "train", "layers of the network for every pixel", ge=1, only_with=ONLY)
    pixel_width: int = field(20, "train", "units per pixel of that network", ge=1, only_with=ONLY)
    bumps: int = field(10, "train", "functions of time that the output is a sum of", ge=2, only_with=ONLY)


def bump_weights(t: Tensor, steps: int, count: int) -> Tensor:
    """b_k(t) at times (B,) in 1..T: `count` Gaussian bumps over the time that sum to 1, float32 (B, count).

    Their centres divide the time evenly from t = 1 to t = T; their deviation is half the distance of two centres, as in
    the authors' code.
    """
    place = (t.float() - 1) / max(steps - 1, 1) * (count - 1)
    distance = place[:, None] - torch.arange(count, device=t.device)
    return (-2 * distance**2).softmax(dim=1)


class Original(nn.Module):
    """From x_t (B, C, H, W) and t in 1..T, int64 (B,), to (B, `outputs`, H, W)."""

    def __init__(self, config: OriginalConfig, shape: tuple[int, int, int], outputs: int, steps: int) -> None:
        super().__init__()
        self.steps, self.bumps = steps, config.bumps
        channels, height, width = shape
        sizes = [channels] + [config.conv_width] * config.branch_layers
        self.convolutions = layers(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(sizes))
        joined = config.conv_width
        self.dense: nn.Module | None = None
        if config.dense_width:
            joined += config.dense_outputs
            inner = [config.dense_width] * (config.branch_layers - 1)
            sizes = [channels * height * width, *inner, config.dense_outputs * height * width]
            self.dense = layers(nn.Linear(a, b) for a, b in pairwise(sizes))
        sizes = [joined] + [config.pixel_width] * (config.pixel_layers - 1) + [config.bumps * outputs]
        self.pixel = layers(nn.Conv2d(a, b, 1) for a, b in pairwise(sizes))[:-1]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        found = self.convolutions(x)
        seen = [found / math.sqrt(found.shape[1])]
        if self.dense is not None:
            drawn = self.dense(x.flatten(1)).unflatten(1, (-1, *x.shape[2:]))
            seen.append(drawn / math.sqrt(drawn.shape[1]))
        images = self.pixel(torch.cat(seen, dim=1)).unflatten(1, (self.bumps, -1))
        return torch.einsum("bk,bkchw->bchw", bump_weights(t, self.steps, self.bumps).to(images.dtype), images)


def layers(linear: Iterator[nn.Conv2d | nn.Linear]) -> nn.Sequential:
    """The layers, each followed by a leaky rectifier.

    Orthogonal weights, but those of 3x3 convolutions small enough for smooth images, whose neighbouring pixels add up.
    """
    found: list[nn.Module] = []
    for layer in linear:
        area = math.prod(layer.kernel_size) if isinstance(layer, nn.Conv2d) else 1
        if area > 1:
            nn.init.normal_(layer.weight, std=layer.weight.shape[0] ** -0.5 / area)
        else:
            nn.init.orthogonal_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        found += [layer, nn.LeakyReLU(LEAK)]
    return nn.Sequential(*found)
