"""The order in which an image's sub-pixels are predicted and drawn, and what needs nothing but that order."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from genbench.images import LEVELS
from genbench.nets import Size, latent_size

LOGITS = 2**28
"""How many logits of images are computed at a time when they are scored: a gibibyte."""
Place = tuple[int, int, int]
"""Row, column and group of a sub-pixel in a folded image."""
Draw = Callable[[Tensor, Place, Tensor], Tensor]
"""(levels, place, uniform) -> the levels of one sub-pixel, int64 (B,).

`levels`, int64 (B, h, w, G), are known before `place` and 0 from there on; `uniform` (B,) in [0, 1) decides the draw.
"""


@dataclass(frozen=True)
class Order:
    """The one order of the sub-pixels of images of `shape` (C, H, W), folded by squares of `patch` pixels.

    A folded image is (B, h, w, G), G = patch * patch * C, and flattened it is the sequence: places in raster order, at
    each the pixels of its square in raster order, of each pixel its colours. With `patch` = 1 that is the order of van
    den Oord et al. 2016: raster, then R, G, B. Sides that `patch` does not divide are padded at the bottom and the
    right; sub-pixels beyond the image are always level 0 and cost nothing.
    """

    shape: tuple[int, int, int]
    patch: int = 1

    @property
    def groups(self) -> int:
        """Sub-pixels at a place, G."""
        return self.patch**2 * self.shape[0]

    @property
    def size(self) -> Size:
        """Height and width of a folded image, (h, w)."""
        return latent_size((self.shape[1], self.shape[2]), self.patch)

    def fold(self, levels: Tensor) -> Tensor:
        """Levels (B, C, H, W) of any type as int64 (B, h, w, G)."""
        (c, height, width), (h, w), p = self.shape, self.size, self.patch
        padded = F.pad(levels.long(), (0, w * p - width, 0, h * p - height))
        return padded.view(-1, c, h, p, w, p).permute(0, 2, 4, 3, 5, 1).reshape(-1, h, w, self.groups)

    def unfold(self, folded: Tensor) -> Tensor:
        """Levels (B, C, H, W) of a folded image: the inverse of `fold`."""
        (c, height, width), (h, w), p = self.shape, self.size, self.patch
        padded = folded.view(-1, h, w, p, p, c).permute(0, 5, 1, 3, 2, 4).reshape(-1, c, h * p, w * p)
        return padded[..., :height, :width]

    def inside(self) -> Tensor:
        """Which sub-pixels of a folded image belong to the image, bool (h, w, G)."""
        return self.fold(torch.ones(1, *self.shape))[0].bool()

    def log_prob(self, logits: Tensor, levels: Tensor) -> Tensor:
        """Nats per image, (B,), of folded levels (B, h, w, G), given logits (B, h, w, G, 256) by teacher forcing."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        nats = F.cross_entropy(logits.flatten(0, -2), levels.flatten(), reduction="none").view_as(levels)
        return -(nats * self.inside().to(nats.device)).flatten(1).sum(1)

    def generate(self, uniform: Tensor, draw: Draw, report: Callable[[float], None]) -> Tensor:
        """Levels, int64 (B, C, H, W), drawn one sub-pixel after another, in order, by `draw`.

        `uniform` (B, h, w, G) in [0, 1) is all the randomness, so that two ways to compute the same distributions draw
        the same images. `draw` is also called for sub-pixels beyond the image, so that what it caches is complete; what
        it returns for them is dropped. `report` is `Model.report`.
        """
        levels, inside = torch.zeros_like(uniform, dtype=torch.int64), self.inside()
        for done, (row, column, group) in enumerate(product(*map(range, inside.shape))):
            drawn = draw(levels, (row, column, group), uniform[:, row, column, group])
            levels[:, row, column, group] = drawn * inside[row, column, group]
            if group == 0:
                report(done / inside.numel())
        return self.unfold(levels)


def in_pieces(log_prob: Callable[[Tensor, Tensor | None], Tensor], images: Tensor, labels: Tensor | None) -> Tensor:
    """`log_prob` of images and labels, nats per image (B,), of as many at once as LOGITS allows."""
    parts = pieces(len(images), LOGITS // (LEVELS * images[0].numel()))
    return torch.cat([log_prob(images[part], None if labels is None else labels[part]) for part in parts])


def pieces(count: int, most: int) -> list[slice]:
    """Slices of `count` images, of at most `most` each, but at least one."""
    return [slice(start, start + max(most, 1)) for start in range(0, count, max(most, 1))]


def categorical(logits: Tensor, uniform: Tensor) -> Tensor:
    """Levels, int64 (B,), at which the distribution functions of logits (B, 256) pass uniform values (B,) in [0, 1)."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    cumulated = logits.softmax(-1).cumsum(-1)
    aims = uniform[:, None].to(cumulated.dtype) * cumulated[:, -1:]
    return torch.searchsorted(cumulated, aims, right=True)[:, 0].clamp(max=LEVELS - 1)
