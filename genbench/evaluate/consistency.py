"""Whether the likelihood of an image depends on that image alone: the same images, in other batches and orders."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from genbench.evaluate.own_noise import OwnNoise
from genbench.model import Batch
from genbench.support.seeds import derive_seed

MANY, FEW, ALONE = 101, 37, 3
"""Images a batch: both larger ones are primes, so that a length is a multiple of one hardly ever by chance."""
TOLERANCE, RELATIVE = 1e-3, 1e-4
"""Bits/dim, and the share of large values, by which values may differ on average, for rounding."""
REPEATS = 8
LARGEST_T = 6.0
"""Of a t statistic over FEW images or more than REPEATS seeds: beyond it by chance less than once in 1,000."""
RULE = "the likelihood of an image depends on no other image"

Bits = Callable[[Batch], Tensor]
"""A batch's images to bits/dim, (B,)."""


def dependence(bits: Bits, batch: Batch, scored: Tensor, seed: int) -> str:
    """How the likelihood of an image depends on the images beside it, with the numbers; "" if it does not.

    `scored` are the values of `batch` as measured. Of the same images, FEW are tried in another order and ALONE one by
    one. A model that draws noise gives equal values under noise of each image's own (`OwnNoise`); these are compared
    with those of a batch of MANY, and with `scored` as estimates of the same mean. Where noise is not of the images, or
    is not drawn in the same way for every batch, means over several seeds are compared.
    """
    if not scored.isfinite().all():
        return ""
    trial, other = (Trial(bits, batch, scored, derive_seed(seed, "others"), layout) for layout in (False, True))
    if not trial.worst:
        return trial.apart_from_scored
    if any(draws > 1 for draws in trial.led) and not other.worst:
        return ""
    return trial.worst if trial.own or trial.apart_over_seeds else ""


@dataclass
class Trial:
    """The values of some images in batches of three sizes, under noise of their own from one seed."""

    bits: Bits
    batch: Batch
    scored: Tensor
    seed: int
    interleaved: bool = False
    led: list[int] = field(default_factory=list)
    """As in `OwnNoise`, of FEW images."""
    own: bool = True
    """Whether all noise was of one image, and drawn in the same way in every batch."""

    @cached_property
    def order(self) -> list[int]:
        return [int(i) for i in np.random.default_rng(self.seed).permutation(len(self.batch))]

    def under_own_noise(self, images: list[int]) -> Tensor:
        """The values of these images of the batch, in one batch."""
        index, given = torch.tensor(images, device=self.batch.images.device), self.batch.given
        part = Batch.of(self.batch.images[index], None if given is None else given[index])
        with OwnNoise(images, self.seed, self.interleaved, self.led or None) as noise:
            found = self.bits(part)
        self.led = self.led or noise.led
        self.own = self.own and all(noise.led) and noise.led == self.led
        return found

    @cached_property
    def few(self) -> Tensor:
        return self.under_own_noise(self.order[:FEW])

    @cached_property
    def many(self) -> Tensor:
        """The values of the same images among MANY, or as scored if there is no noise."""
        few, members = self.few, sorted(self.order[:MANY])
        values = self.under_own_noise(members) if self.led else self.scored[members]
        return values[[members.index(image) for image in self.order[: len(few)]]]

    @cached_property
    def alone(self) -> Tensor:
        assert len(self.few)
        return torch.cat([self.under_own_noise([image]) for image in self.order[:ALONE]])

    @cached_property
    def worst(self) -> str:
        """The image whose value differs most, told with its values; "" if all agree up to rounding."""
        many = min(MANY, len(self.batch)) if self.led else len(self.batch)
        size = len(self.few)
        for values, how in ((self.alone, "alone"), (self.few, f"among {size} in another order")):
            others = self.many[: len(values)]
            apart = (values - others).abs()
            if not apart.mean() <= max(TOLERANCE, RELATIVE * float(others.abs().mean())):
                at = int(apart.nan_to_num(math.inf).argmax())
                told = f"{values[at]:.4g} bits/dim {how} and {others[at]:.4g} among {many}"
                return f"image {self.order[at]} has {told}: {RULE}"
        return ""

    @property
    def apart_from_scored(self) -> str:
        """How the means of FEW images and of the same as scored differ, by more than their noise; "" if they do not."""
        scored = self.scored[self.order[: len(self.few)]]
        if not self.own or not _apart(self.few - scored):
            return ""
        told = f"{self.few.mean():.4g} bits/dim among {len(self.few)} and {scored.mean():.4g} among {len(self.batch)}"
        return f"the same images have {told}: {RULE}"

    @property
    def apart_over_seeds(self) -> bool:
        """Whether the mean over images differs between batches, over REPEATS seeds, by more than chance explains."""
        again = [Trial(self.bits, self.batch, self.scored, derive_seed(self.seed, k)) for k in range(REPEATS)]
        alone = torch.stack([(trial.alone - trial.few[:ALONE]).mean() for trial in again])
        return _apart(alone) or _apart(torch.stack([(trial.few - trial.many).mean() for trial in again]))


def _apart(differences: Tensor) -> bool:
    """Whether the mean of independent differences is not 0, by their t statistic."""
    mean, error = float(differences.mean()), float(differences.std()) / len(differences) ** 0.5
    return not abs(mean) <= max(LARGEST_T * error, TOLERANCE)
