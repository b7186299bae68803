"""Images of maps, whose distribution given the map is known: every class has a colour, and varies as one.

    value d of an image whose map gives class k there:   x_d = mean_kd + modes_kd z_k + noise * e_d
    z_k ~ N(0, I), one for each class and image,   e ~ N(0, I),   level = round(x), clipped to 0..255

Modes are smooth patterns over the whole image, of which a class shows its regions: they vary together. Given the map,
all pixels of one class are one Gaussian, of covariance noise^2 I + W W' with the rows W of their modes, and those of
different classes are independent. Grey levels and nats throughout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from genbench.condition import Kind
from genbench.data.dataset import KnownLaw, Part
from genbench.data.mixture import entropy_beyond, smooth_modes
from genbench.records.record import Entropy
from genbench.support.seeds import derive_seed

COLOURS = np.array([*product((0, 1), repeat=3), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)])
"""Of the classes (K, 3): the corners of a cube and the middles of three of its sides, which are far apart."""
DARK, BRIGHT = 60, 195
"""The levels of 0 and 1: from there to 0 and 255 it is three standard deviations of the pixel that varies most."""
VARIATION = 18.0
"""What the pixel of a class that varies most deviates by, without noise."""


def make_regions(shape: tuple[int, int, int], rank: int, noise: float, seed: int) -> Regions:
    """The distribution of a seed, the same in every version of NumPy, since the streams of RandomState are frozen."""
    stream = np.random.RandomState(derive_seed("regions", seed) % 2**32)
    means = DARK + (BRIGHT - DARK) * np.repeat(COLOURS, shape[1] * shape[2], axis=1)
    return Regions(means, smooth_modes(stream, (len(COLOURS), rank), shape, VARIATION), noise)


@dataclass(frozen=True)
class Regions(KnownLaw):
    """Of K classes means (K, D) and modes (K, D, rank), and the standard deviation of isotropic noise.

    Maps are whole numbers below K, (N, h, w), the same for each colour: D is a multiple of h * w.
    """

    means: np.ndarray
    modes: np.ndarray
    noise: float
    kinds = ("map",)

    def mean(self, maps: np.ndarray) -> np.ndarray:
        """E[x | map], (N, D)."""
        found: np.ndarray = self.means[self._classes(maps), np.arange(self.means.shape[1])]
        return found

    def draw(self, maps: np.ndarray, random: np.random.Generator | np.random.RandomState) -> np.ndarray:
        """An x for each map, (N, D), not rounded."""
        classes = self._classes(maps)
        found = self.mean(maps) + self.noise * random.standard_normal(classes.shape)
        for k, modes in enumerate(self.modes):
            found += (classes == k) * (random.standard_normal((len(maps), modes.shape[1])) @ modes.T)
        return found

    def log_prob(self, levels: np.ndarray, maps: np.ndarray) -> np.ndarray:
        """Nats per image (N,) of levels (N, D) given their maps; a level's probability is the density at its centre."""
        classes, apart = self._classes(maps), levels - self.mean(maps)
        square, log_det = (apart**2).sum(1), np.zeros(len(levels))
        for modes, mine, inner in self._parts(classes):
            seen = (apart * mine) @ modes
            square -= np.einsum("nr,nr->n", seen, np.linalg.solve(inner, seen[..., None])[..., 0])
            log_det += np.linalg.slogdet(inner / self.noise**2)[1]
        dims = levels.shape[1]
        found: np.ndarray = -(square / self.noise**2 + log_det + dims * math.log(2 * math.pi * self.noise**2)) / 2
        return found

    def answers(
        self, kind: Kind, part: Part, places: np.ndarray, random: np.random.Generator | None = None
    ) -> np.ndarray:  # fmt: skip
        maps = np.asarray(part.conditions["map"]["map"][places])
        return self.mean(maps) if random is None else self.draw(maps, random)

    def entropies(self, test: Part) -> Mapping[Kind | None, Entropy]:
        return {"map": self.entropy(np.asarray(test.conditions["map"]["map"]))}

    def entropy(self, maps: np.ndarray) -> Entropy:
        """The mean over maps of the entropy of the 256 levels given one: the midpoint of two bounds.

        The lower bound is the differential entropy less the most that clipping can remove; the upper bound has the most
        that rounding can add. `error` is half their distance.
        """
        classes, (count, dims) = self._classes(maps), (len(maps), self.means.shape[1])
        log_det, traces = 0.0, 0.0
        for _, _, inner in self._parts(classes):
            log_det += float(np.linalg.slogdet(inner / self.noise**2)[1].mean())
            traces += float(np.trace(np.linalg.inv(inner), axis1=1, axis2=2).mean())
        density = (log_det + dims * math.log(2 * math.pi * math.e * self.noise**2)) / 2
        # tr (s^2 I + W W')^-1 = (n - r) / s^2 + tr (s^2 I + W' W)^-1, of a class's n pixels
        information = (dims - self.modes[:, 0].size) / self.noise**2 + traces
        rounding = information / (2 * math.pi**2)  # as `Mixture.rounding`
        clipping = float((self.clipping() * np.stack([(classes == k).mean(0) for k in range(len(self.means))])).sum())
        unit = dims * math.log(2)
        note = (
            f"given the map, a Gaussian for each class in {dims} dimensions, as a mean over {count:,} maps: "
            f"differential entropy {density / unit:.6f} bits/dim, rounding adds at most {rounding / unit:.1e} (a "
            f"logarithmic Sobolev inequality), clipping removes at most {clipping / unit:.1e}"
        )
        low, high = density - clipping, density + rounding
        return Entropy(bits_per_dim=(low + high) / 2 / unit, error=(high - low) / 2 / unit, note=note)

    def clipping(self) -> np.ndarray:
        """Upper bound (K, D) on the entropy that clipping removes from a pixel of a class."""
        std = np.sqrt((self.modes**2).sum(2) + self.noise**2)
        dark, bright = (
            entropy_beyond((margin / std)[None], (1 / std)[None]) for margin in (self.means - 0.5, 254.5 - self.means)
        )
        total: np.ndarray = dark + bright
        return total

    def _classes(self, maps: np.ndarray) -> np.ndarray:
        """The class (N, D) of each value."""
        flat = maps.reshape(len(maps), -1)
        return np.tile(flat, self.means.shape[1] // flat.shape[1])

    def _parts(self, classes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each class the modes (D, r), which values (N, D) have it, and noise^2 I + W' W, (N, r, r)."""
        for k, modes in enumerate(self.modes):
            mine, rank = classes == k, modes.shape[1]
            products = (modes[:, :, None] * modes[:, None, :]).reshape(len(modes), -1)
            yield modes, mine, (mine @ products).reshape(-1, rank, rank) + self.noise**2 * np.eye(rank)
