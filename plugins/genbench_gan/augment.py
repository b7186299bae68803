"""Adaptive discriminator augmentation (Karras et al. 2020b): the critic sees transformed images, as often as it takes.

Real and generated images alike pass random transforms before the critic, each with probability p. As long as p is well
below 1 the generator still learns the distribution of the images as they are (section 3.1 there). All transforms are
linear in the pixels and can be differentiated twice, so that penalties on the critic's gradient see them too.
"""

import math
from collections.abc import Callable
from functools import reduce
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from genbench import Config, field

Transform = Literal[
    "flip", "turn", "shift", "scale", "rotate", "stretch", "move",
    "brightness", "contrast", "luma_flip", "hue", "saturation",
]  # fmt: skip
Draw = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) to a random map for each, homogeneous matrices (B, n + 1, n + 1)."""


class AugmentOptions(Config):
    """What the critic sees in the place of images."""

    augment: Literal["none", "ada"] = field(
        "none", "train", "transform what the critic sees, as often as keeps it from overfitting"
    )
    transforms: tuple[Transform, ...] = field(
        ("shift", "scale", "brightness", "contrast"),
        "train",
        f"those that lead to images of the same kind, of {', '.join(get_args(Transform))}",
        min_length=1,
        only_with={"augment": ["ada"]},
    )
    augment_target: float = field(
        0.6, "train", "mean sign of real images' scores that is held", ge=-1, le=1, only_with={"augment": ["ada"]}
    )
    augment_images: int = field(
        20_000, "train", "images in which the probability can rise from 0 to 1", ge=1, only_with={"augment": ["ada"]}
    )


def uniform(images: Tensor, low: float, high: float) -> Tensor:
    """A number for each image, (B,)."""
    return low + (high - low) * torch.rand(len(images), device=images.device)


def normal(images: Tensor, deviation: float) -> Tensor:
    """A number for each image, (B,)."""
    return deviation * torch.randn(len(images), device=images.device)


def one_of(images: Tensor, count: int) -> Tensor:
    """0 to count - 1 for each image, (B,)."""
    return torch.randint(count, (len(images),), device=images.device).float()


def affine(matrix: Tensor, offset: Tensor | None = None) -> Tensor:
    """Homogeneous matrices (B, n + 1, n + 1) of x -> matrix x + offset, from (B, n, n) and (B, n)."""
    count, n, _ = matrix.shape
    whole = torch.eye(n + 1, device=matrix.device).repeat(count, 1, 1)
    whole[:, :n, :n] = matrix
    if offset is not None:
        whole[:, :n, n] = offset
    return whole


def scaling(*factors: Tensor) -> Tensor:
    """Maps that scale each coordinate by its factor (B,)."""
    return affine(torch.diag_embed(torch.stack(factors, 1)))


def translation(*offsets: Tensor) -> Tensor:
    """Maps that add its offset (B,) to each coordinate."""
    offset = torch.stack(offsets, 1)
    return affine(torch.diag_embed(torch.ones_like(offset)), offset)


def rotation(angle: Tensor) -> Tensor:
    """Maps that rotate the plane by an angle (B,)."""
    cos, sin = angle.cos(), angle.sin()
    return affine(torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2))


# The plane: places (x, y), pixels from the centre. A map leads from a place in the new image to where its colour comes
# from; each is as likely as its inverse. Source of all distributions: Karras et al. 2020b, appendix B.


def flip(images: Tensor) -> Tensor:
    sign = 1 - 2 * one_of(images, 2)
    return scaling(sign, torch.ones_like(sign))


def turn(images: Tensor) -> Tensor:
    return rotation(one_of(images, 4) * math.pi / 2).round()


def shift(images: Tensor) -> Tensor:
    return translation(*((uniform(images, -0.125, 0.125) * side).round() for side in images.shape[:1:-1]))


def scale(images: Tensor) -> Tensor:
    factor = normal(images, 0.2).exp2()
    return scaling(factor, factor)


def rotate(images: Tensor) -> Tensor:
    return rotation(uniform(images, -math.pi, math.pi))


def stretch(images: Tensor) -> Tensor:
    factor = normal(images, 0.2).exp2()
    return scaling(factor, 1 / factor)


def move(images: Tensor) -> Tensor:
    return translation(*(normal(images, 0.125) * side for side in images.shape[:1:-1]))


# Colours, (C,), in [-1, 1]; the luma axis is that of gray.


def gray(images: Tensor) -> Tensor:
    """The projection onto the luma axis, (C, C)."""
    channels = images.shape[1]
    return torch.full((channels, channels), 1 / channels, device=images.device)


def brightness(images: Tensor) -> Tensor:
    return translation(*[normal(images, 0.2)] * images.shape[1])


def contrast(images: Tensor) -> Tensor:
    return scaling(*[normal(images, 0.5).exp2()] * images.shape[1])


def luma_flip(images: Tensor) -> Tensor:
    axis = gray(images)
    return affine(torch.eye(len(axis), device=axis.device) - 2 * one_of(images, 2)[:, None, None] * axis)


def hue(images: Tensor) -> Tensor:
    """A rotation about the luma axis (Rodrigues' formula)."""
    axis, angle = gray(images), uniform(images, -math.pi, math.pi)[:, None, None]
    eye = torch.eye(3, device=axis.device)
    cross = (eye.roll(1, 0) - eye.roll(-1, 0)) / math.sqrt(3)
    return affine(axis + angle.cos() * (eye - axis) + angle.sin() * cross)


def saturation(images: Tensor) -> Tensor:
    axis = gray(images)
    return affine(axis + normal(images, 1.0).exp2()[:, None, None] * (torch.eye(len(axis), device=axis.device) - axis))


GEOMETRY: list[tuple[Transform, Draw]] = [
    ("flip", flip), ("turn", turn), ("shift", shift), ("scale", scale), ("rotate", rotate), ("stretch", stretch),
    ("rotate", rotate), ("move", move),
]  # fmt: skip
COLOURS: list[tuple[Transform, Draw]] = [
    ("brightness", brightness), ("contrast", contrast), ("luma_flip", luma_flip), ("hue", hue),
    ("saturation", saturation),
]  # fmt: skip
CHANNELS: dict[Transform, tuple[int, ...]] = {"hue": (3,), "saturation": (2, 3, 4)}
"""The numbers of channels for which a transform means something, unless it is all."""


def cubic(distance: Tensor) -> Tensor:
    """The weight of a pixel at a distance of at most 2 (Keys 1981, equation 15)."""
    near = (1.5 * distance - 2.5) * distance.square() + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance <= 1, near, far)


def taps(places: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Indices and weights, (B, 4, N), of the pixels around places (B, N) in a row of `count`, reflected at its ends."""
    index = places.floor()[:, None] + torch.arange(-1, 3, device=places.device)[:, None]
    weights = cubic((places[:, None] - index).abs())
    last = max(count - 1, 1)
    return (last - (index.abs() % (2 * last) - last).abs()).long().clamp(max=count - 1), weights


def resampled(images: Tensor, maps: Tensor) -> Tensor:
    """Images (B, C, H, W) whose colour at each place u, (x, y) from the centre, is the given ones' at maps (u, 1).

    `maps` are (B, 3, 3). Colours between pixels are interpolated by cubic convolution, which is exact for maps from
    pixels to pixels; beyond the edges the images are reflected. Double backward works, unlike that of grid_sample.
    """
    height, width = images.shape[2:]
    rows, columns = (torch.arange(side, device=maps.device, dtype=maps.dtype) for side in (height, width))
    centre = maps.new_tensor([(width - 1) / 2, (height - 1) / 2])
    x, y = (grid.flatten() for grid in torch.meshgrid(columns, rows, indexing="xy"))
    from_centre = torch.stack([x - centre[0], y - centre[1], torch.ones_like(x)])
    places = (maps[:, :2] @ from_centre) + centre[:, None]
    (across, weight_x), (down, weight_y) = taps(places[:, 0], width), taps(places[:, 1], height)
    index = (down[:, :, None] * width + across[:, None]).flatten(1)
    colours = images.flatten(2).gather(2, index[:, None].expand(-1, images.shape[1], -1))
    by_row = (colours.view(*colours.shape[:2], 4, 4, -1) * weight_x[:, None, None]).sum(3)
    return (by_row * weight_y[:, None]).sum(2).view_as(images)


def rescaled(images: Tensor, maps: Tensor) -> Tensor:
    """What `resampled` makes, by two products, of images whose rows and columns the maps leave rows and columns."""
    height, width = images.shape[2:]
    down, across = (shares(maps[:, axis, axis], maps[:, axis, 2], side) for axis, side in ((1, height), (0, width)))
    return down[:, None] @ images @ across[:, None].mT


def shares(factor: Tensor, offset: Tensor, side: int) -> Tensor:
    """What each pixel of a new row (B, side, side) has of the given row's, from where its maps (B,) lead."""
    centre = (side - 1) / 2
    row = torch.arange(side, device=factor.device, dtype=factor.dtype) - centre
    index, weights = taps(factor[:, None] * row + offset[:, None] + centre, side)
    none = weights.new_zeros(len(factor), side, side)
    return none.scatter_add(2, index.mT, weights.mT)


def recoloured(images: Tensor, maps: Tensor) -> Tensor:
    """Images (B, C, H, W) with every colour c replaced by maps (c, 1); `maps` are (B, C + 1, C + 1)."""
    channels = images.shape[1]
    offset = maps[:, :channels, channels:]
    return (maps[:, :channels, :channels] @ images.flatten(2) + offset).view_as(images)


class AdaptiveAugmentation(nn.Module):
    """Transforms images (B, C, H, W), each in its own way, and adapts how often to how far the critic overfits.

    Its state is buffers, so that it is in checkpoints. Of several micro-batches or processes only the first is heard,
    whose buffers are the ones that are kept; how fast p moves does not depend on their number.
    """

    p: Tensor
    signs: Tensor
    batches: Tensor
    interval = 4
    """Batches between two steps of p."""

    def __init__(self, transforms: tuple[Transform, ...], channels: int, target: float, step: float) -> None:
        super().__init__()
        chosen = [name for name in transforms if channels in CHANNELS.get(name, (channels,))]
        self.geometry = [entry for entry in GEOMETRY if entry[0] in chosen]
        self.colours = [entry for entry in COLOURS if entry[0] in chosen]
        self.turns = not {"turn", "rotate"}.isdisjoint(chosen)
        self.target, self.step = target, step
        for name in ("p", "signs", "batches"):
            self.register_buffer(name, torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            if self.geometry:
                steps = [self.sometimes(*entry, images) for entry in self.geometry]
                resample = resampled if self.turns else rescaled
                images = resample(images, reduce(torch.matmul, steps))
            if self.colours:
                steps = [self.sometimes(*entry, images) for entry in self.colours]
                images = recoloured(images, reduce(torch.matmul, reversed(steps)))
        return images

    def sometimes(self, name: Transform, draw: Draw, images: Tensor) -> Tensor:
        """Maps of one transform, each the identity instead with probability 1 - p.

        Of the two rotations at least one takes place with probability p.
        """
        p = self.p if name != "rotate" else 1 - (1 - self.p).sqrt()
        maps = draw(images)
        eye = torch.eye(maps.shape[1], device=maps.device)
        takes_place = torch.rand(len(maps), device=maps.device) < p
        return torch.where(takes_place[:, None, None], maps, eye).to(images.dtype)

    @torch.no_grad()
    def observe(self, scores: Tensor) -> None:
        """Take note of the critic's scores (B,) for a batch of real images; every fourth time p moves by one step.

        It rises if the mean sign is above the target, which says that the critic tells its training images from any
        others, and falls if it is below. Source: Karras et al. 2020b, section 3.1; p is also kept from exceeding 1,
        where it could do no more.
        """
        self.signs += scores.sign().mean()
        self.batches += 1
        due = self.batches >= self.interval
        p = (self.p + self.step * (self.signs / self.batches - self.target).sign()).clamp(0, 1)
        self.p.copy_(torch.where(due, p, self.p))
        for counter in (self.signs, self.batches):
            counter.mul_(~due)
