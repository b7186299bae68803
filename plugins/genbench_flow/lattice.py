"""Levels from coarse to fine pixels: a pixel's density given those drawn before it is one elementwise transform."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench import DataSpec
from genbench.condition import Given
from genbench_flow.layers import ActNorm, Coupling, Level, Network, squeeze
from genbench_flow.masked import Autoregression, Reversal
from genbench_flow.settings import FlowConfig
from genbench_flow.transforms import Transform

Transforms = Callable[[int], Transform]
"""The transform of values that have gone through so many, for each of them anew."""


class Group(NamedTuple):
    """Pixels that are drawn at once: the `places` of 2x2 patches, given the places `known`.

    With a `parity` they are those of the patches (i, j) whose i + j has it, the even ones before the odd ones.
    """

    places: tuple[int, ...]
    known: tuple[int, ...]
    parity: int | None = None


SEEN = 8
"""Pixels a side, at most, of what a condition shows to the coarsest pixels, which are few."""
GROUPS = (Group((3,), (0,), 0), Group((3,), (0,), 1), Group((1, 2), (0, 3)))
"""In the order of drawing. Place 0 is on the coarser grid; the pixels of a group lie between known ones.

Pixels of a group are independent given those before it, which is where a flow's samples lose their shapes: the groups
are smallest where the known pixels are furthest apart.
"""


class HalfCoupling(Coupling):
    """A coupling of the target's pixels (i, j) whose i + j has a `parity`.

    Beside the context its network sees the channels `first_half`, at the even pixels.
    """

    network: Network
    first_half: Tensor
    even: Tensor
    pixels: Tensor

    def __init__(
        self,
        target: Sequence[int],
        context: Sequence[int],
        first_half: Sequence[int],
        network: Network,
        transform: Transform,
        inside: Tensor,
        parity: int,
    ) -> None:
        height, width = network.place.shape[1:]
        parities = (torch.arange(height)[:, None] + torch.arange(width)) % 2
        pixels = (parities.flatten() == parity).nonzero().squeeze(1)
        super().__init__(target, context, network, transform, inside.flatten(1)[:, pixels])
        self.register_buffer("first_half", torch.tensor(first_half, dtype=torch.long), persistent=False)
        self.register_buffer("even", parities == 0, persistent=False)
        self.register_buffer("pixels", pixels, persistent=False)

    def placed(self, inside: Tensor) -> Tensor:
        return inside

    def seen(self, x: Tensor) -> Tensor:
        context = super().seen(x)
        return torch.cat([context, (x.index_select(1, self.first_half) * self.even).to(context.dtype)], 1)

    def parts(self, x: Tensor, labels: Given) -> tuple[Tensor, Tensor]:
        """The N pixels of the target (B, T, N) and their parameters (B, T, N, P), in the precision of x."""
        target = x.index_select(1, self.target).flatten(2).index_select(2, self.pixels)
        parameters = self.network.at(self.pixels, self.seen(x), labels).to(x.dtype)
        return target, parameters.reshape(*target.mT.shape, self.transform.parameters_each).transpose(1, 2)

    def put(self, x: Tensor, target: Tensor) -> Tensor:
        """x (B, C, H, W) with the pixels of the target replaced by `target` (B, T, N)."""
        flat = x.flatten(2)
        whole = flat.index_select(1, self.target).index_copy(2, self.pixels, target)
        return flat.index_copy(1, self.target, whole).view_as(x)


def lattice_levels(data: DataSpec, config: FlowConfig, depth: int, transform: Transforms) -> list[Level]:
    """`depth` levels that each keep one pixel of four, and a last one for all of the coarsest pixels."""
    (c, height, width), levels = data.shape, []
    below, right = config.padding_of(data)
    h, w = height + below, width + right
    inside = F.pad(torch.ones(1, c, height, width), (0, right, 0, below)).bool()
    for factor in (2**level for level in range(1, depth + 1)):
        h, w = h // 2, w // 2
        inside = squeeze(inside, (2, 2))
        more = 2 if factor > 2 else 1

        def network(
            channels: int, outputs: int, places: int, more: int = more, size: tuple[int, int] = (h, w),
            factor: int = factor,
        ) -> Network:  # fmt: skip
            wide, blocks, classes = config.width * more, config.blocks * more, data.num_classes
            return Network(
                channels, outputs, wide, blocks, size, 3, classes, data.shown, factor, places, (height, width)
            )

        layers: list[nn.Module] = [
            _coupling(group, colour, c, network, transform(0), inside[0])
            for group in reversed(GROUPS)
            for colour in reversed(range(c))
        ]
        inside = inside[:, ::4]
        levels.append(Level((2, 2), 4 * c, range(0, 4 * c, 4), layers))
    levels.append(_coarsest((c, h, w), data, config, transform))
    if config.transform_of(data) == "affine":
        first = levels[0]
        first.layers.insert(0, ActNorm(len(first.keep) + len(first.leave)))
    return levels


def _coupling(
    group: Group, colour: int, colours: int, network: Callable[[int, int, int], Network], transform: Transform,
    inside: Tensor,
) -> Coupling:  # fmt: skip
    """The coupling of a group's pixels in one colour, among the 4C channels of 2x2 patches.

    It also sees the group's pixels in the colours before; these are transformed after it. `inside`, bool (4C, h, w),
    says which pixels of the channels are the image's.
    """

    def channels(places: Sequence[int], of: range) -> list[int]:
        return [4 * c + place for c in of for place in places]

    target, known = channels(group.places, range(colour, colour + 1)), channels(group.known, range(colours))
    before, after = channels(group.places, range(colour)), channels(group.places, range(colour, colours))
    outputs, places = len(target) * transform.parameters_each, transform.parameters_each * transform.placed
    if group.parity is None:
        seen = network(len(known + before), outputs, places)
        return Coupling(target, known + before, seen, transform, inside[target])
    context, first_half = (known + before, after) if group.parity else (known, before)
    seen = network(len(context + first_half), outputs, places)
    return HalfCoupling(target, context, first_half, seen, transform, inside[target], group.parity)


def _coarsest(shape: tuple[int, int, int], data: DataSpec, config: FlowConfig, transform: Transforms) -> Level:
    """`steps` autoregressions over all pixels, every other one from the last pixel to the first."""
    (c, h, w), layers = shape, []
    dims = c * h * w
    for step in range(config.steps):
        width, classes = 16 * config.width, data.num_classes
        size = (min(data.shape[1], SEEN), min(data.shape[2], SEEN))
        autoregression = Autoregression(dims, width, transform(step), classes, data.shown, size)
        layers += [*[Reversal()] * (step > 0), autoregression]
    return Level((h, w), dims, [], layers)
