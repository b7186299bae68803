"""Levels from coarse to fine pixels: a pixel's density given the coarser ones is one elementwise transform."""

from collections.abc import Callable

from torch import nn

from genbench import DataSpec
from genbench_flow.layers import ActNorm, Coupling, Level, Network
from genbench_flow.masked import Autoregression, Reversal
from genbench_flow.settings import FlowConfig
from genbench_flow.transforms import Affine, Spline

Transform = Callable[[], Affine | Spline]


def lattice_levels(data: DataSpec, config: FlowConfig, depth: int, transform: Transform) -> list[Level]:
    """`depth` levels that each keep one pixel of four, and a last one for all of the coarsest pixels."""
    (c, h, w), levels = data.shape, []
    for level in range(depth):
        h, w = h // 2, w // 2
        more = 2 if level else 1
        size = config.width * more, config.blocks * more
        layers: list[nn.Module] = []
        for target, context in _places(c):
            kind = transform()
            outputs = len(target) * kind.parameters_each
            network = Network(len(context), outputs, *size, (h, w), 3, data.num_classes)
            layers.append(Coupling(target, context, network, kind))
        levels.append(Level((2, 2), 4 * c, range(0, 4 * c, 4), layers))
    levels.append(_coarsest((c, h, w), config, data.num_classes, transform))
    if config.coupling == "affine":
        first = levels[0]
        first.layers.insert(0, ActNorm(len(first.keep) + len(first.leave)))
    return levels


def _places(colours: int) -> list[tuple[list[int], list[int]]]:
    """Targets and contexts among the 4C channels of 2x2 patches, in the order of the layers.

    Place 0 of a patch is on the coarser grid. Places 1 and 2 are given 0 and 3, then place 3 is given 0: twice a
    chequerboard given the other one. A colour also sees the colours before it, and so is transformed before them.
    """
    couplings = []
    for places, known in (([1, 2], [0, 3]), ([3], [0])):
        for colour in reversed(range(colours)):
            before = [4 * c + place for c in range(colour) for place in places]
            couplings.append(
                ([4 * colour + p for p in places], [4 * c + p for c in range(colours) for p in known] + before)
            )
    return couplings


def _coarsest(shape: tuple[int, int, int], config: FlowConfig, num_classes: int, transform: Transform) -> Level:
    """`steps` autoregressions over all pixels, every other one from the last pixel to the first."""
    (c, h, w), layers = shape, []
    dims = c * h * w
    for step in range(config.steps):
        layers += [Reversal()] * (step > 0) + [Autoregression(dims, 16 * config.width, transform(), num_classes)]
    return Level((h, w), dims, [], layers)
