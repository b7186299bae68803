"""EfficientNet-Lite0, a small classifier of photographs: its layers, and its weights from an installed package.

M. Tan and Q. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019), Table 1; the Lite
variants leave out squeeze-and-excitation and replace swish by ReLU6. The weights are pinned by their digest, and the
package that ships them is never imported.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from genbench.evaluate.extractor import BATCH, Extractor
from genbench.evaluate.pretrained import CPU_BATCH
from genbench.evaluate.weights import find_weights, pinned

STEM, HEAD, CLASSES = 32, 1280, 1000
STAGES = (
    # expansion, channels, kernel, stride, layers
    (1, 16, 3, 1, 1),
    (6, 24, 3, 2, 2),
    (6, 40, 5, 2, 2),
    (6, 80, 3, 2, 3),
    (6, 112, 5, 1, 3),
    (6, 192, 5, 2, 4),
    (6, 320, 3, 1, 1),
)
TAKEN = (4, 6)
"""The stages whose pooled outputs, at strides 16 and 32, are the features.

Of photographs of 32x32 and 64x64 they see damage and missing classes that neither stage nor the pooled head sees.
"""
MEAN, DEVIATION = 127.0, 128.0
"""Of the levels 0 to 255, as the weights were trained."""


class EfficientNetLite0(nn.Module):
    """uint8 images (B, 1 or 3, H, W) to features (B, 432), the pooled stages of `TAKEN`, and ImageNet logits (B, 1000).

    Images are stretched to `side` x `side`, a multiple of 32: bicubic, with antialiasing where they shrink.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.stem = nn.Sequential(*convolution(3, STEM, 3, stride=2))
        self.stages, channels = nn.ModuleList(), STEM
        for expansion, wider, kernel, stride, count in STAGES:
            blocks = []
            for layer in range(count):
                blocks.append(InvertedResidual(channels, wider, kernel, stride if layer == 0 else 1, expansion))
                channels = wider
            self.stages.append(nn.Sequential(*blocks))
        self.head = nn.Sequential(*convolution(channels, HEAD, 1))
        self.classify = nn.Linear(HEAD, CLASSES)

    def forward(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        images = F.interpolate(levels.float(), (self.side, self.side), mode="bicubic", antialias=True)
        images = ((images - MEAN) / DEVIATION).expand(-1, 3, -1, -1)
        outputs, pooled = self.stem(images.contiguous(memory_format=torch.channels_last)), []
        for stage in self.stages:
            outputs = stage(outputs)
            pooled.append(outputs.mean((2, 3)))
        logits: Tensor = self.classify(self.head(outputs).mean((2, 3)))
        return torch.cat([pooled[stage] for stage in TAKEN], 1), logits


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, filter each channel on its own, project back; add the input if it has the shape."""

    def __init__(self, channels: int, wider: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        expand = convolution(channels, inner, 1) if expansion > 1 else []
        depthwise = convolution(inner, inner, kernel, stride, groups=inner)
        self.layers = nn.Sequential(*expand, *depthwise, *convolution(inner, wider, 1, activation=False))
        self.residual = stride == 1 and channels == wider

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layers(inputs)
        return inputs + outputs if self.residual else outputs


def convolution(
    channels: int, wider: int, kernel: int, stride: int = 1, groups: int = 1, activation: bool = True
) -> list[nn.Module]:
    """A convolution, its batch norm and ReLU6; of an even side it keeps 1/stride, padded as TensorFlow's "SAME"."""
    before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
    layers: list[nn.Module] = [nn.ZeroPad2d((before, after, before, after))] if before != after else []
    layers.append(
        nn.Conv2d(channels, wider, kernel, stride, before if before == after else 0, groups=groups, bias=False)
    )
    layers.append(nn.BatchNorm2d(wider, eps=1e-3))
    return [*layers, nn.ReLU6(inplace=True)] if activation else layers


def photographic(name: str, channels: int, weights: Path | None = None, device: str = "cpu") -> Extractor:
    """The named extractor for images of 1 or 3 channels. Raises EnvironmentProblem or CorruptData."""
    about = pinned()[name]
    network = load_network(find_weights(name, weights), about["side"]).to(device)
    identity = {
        "weights_sha256": about["sha256"], "layer": about["layer"], "logits_layer": about["logits_layer"],
        "resize": f"bicubic with a = -0.5, antialiased, to {about['side']}x{about['side']}",
        "levels": f"(level - {MEAN:g}) / {DEVIATION:g}", "channels": "1 repeated to 3" if channels == 1 else "3",
    }  # fmt: skip
    batch = CPU_BATCH if device == "cpu" else BATCH
    return Extractor(name, network, about["dim"], about["num_classes"], identity, device, batch)


def load_network(weights: Path, side: int) -> EfficientNetLite0:
    """The network with the weights in a file whose digest was checked, batch norms folded into its convolutions."""
    network = EfficientNetLite0(side).eval().requires_grad_(False)
    tensors = torch.load(weights, map_location="cpu", weights_only=True)  # noqa: TID251  published, verified by its digest
    # The file names its tensors after the modules of another program, but lists them in the order of the layers.
    network.load_state_dict(dict(zip(network.state_dict(), tensors.values(), strict=True)))
    for block in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        fold(block)
    return network.to(memory_format=torch.channels_last)


def fold(block: nn.Sequential) -> None:
    """Fold each batch norm of the block into the convolution before it, in float64."""
    for place, layer in enumerate(block):
        if isinstance(layer, nn.BatchNorm2d):
            conv = block[place - 1]
            assert isinstance(conv, nn.Conv2d)
            block[place - 1] = fuse_conv_bn_eval(conv.double(), layer.double()).float()
            block[place] = nn.Identity()
