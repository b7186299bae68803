"""Levels that go from coarse to fine pixels: every pixel's density given coarser ones is one elementwise transform."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from genbench import DataSpec
from genbench_flow.layers import ActNorm, Constant, Coupling, Level, Network
from genbench_flow.transforms import Affine, Spline

if TYPE_CHECKING:
    from genbench_flow import FlowConfig

Transform = Callable[[], Affine | Spline]


def lattice_levels(data: DataSpec, config: FlowConfig, depth: int, transform: Transform) -> list[Level]:
    """`depth` levels that each keep one pixel of four, and one for the coarsest pixels, all of them."""
    (c, h, w), levels = data.shape, []
    for level in range(depth):
        h, w = h // 2, w // 2
        width = config.width * min(2**level, 2)
        layers: list[nn.Module] = []
        for target, context in _places(c):
            kind = transform()
            outputs = len(target) * kind.parameters_each
            network = Network(len(context), outputs, width, config.blocks, (h, w), 3, data.num_classes)
            layers.append(Coupling(target, context, network, kind))
        levels.append(Level((2, 2), 4 * c, range(0, 4 * c, 4), layers))
    levels.append(_coarsest((c, h, w), config, data.num_classes, transform))
    if config.coupling == "affine":
        first = levels[0]
        first.layers.insert(0, ActNorm(len(first.keep) + len(first.leave)))
    return levels


def _places(colours: int) -> list[tuple[list[int], list[int]]]:
    """Targets and contexts among the 4C channels of 2x2 patches, in the order of the layers.

    Place 0 of a patch is on the coarser grid. Places 1 and 2 are given 0 and 3, then place 3 is given 0: a chequerboard
    given the other one, twice. A colour also sees the colours before it, and so is transformed before they are.
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
    """`steps` couplings of random halves, by fully connected networks, and a learned marginal for every pixel."""
    (c, h, w), layers = shape, []
    dims = c * h * w
    generator = torch.Generator().manual_seed(0)
    order: list[int] = []
    for step in range(config.steps if dims > 1 else 0):
        if step % 2 == 0:
            order = torch.randperm(dims, generator=generator).tolist()
        halves = order[: dims // 2], order[dims // 2 :]
        target, context = halves if step % 2 == 0 else halves[::-1]
        kind = transform()
        network = Network(len(context), len(target) * kind.parameters_each, 8 * config.width, 1, (1, 1), 1, num_classes)
        layers.append(Coupling(target, context, network, kind))
    kind = transform()
    layers.append(Coupling(range(dims), [], Constant(dims * kind.parameters_each, num_classes), kind))
    return Level((h, w), dims, [], layers)
