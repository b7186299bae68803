"""Noise conditional score networks: learn the gradient of the log density of noisy images, and follow it to data.

    x~ = x + sigma_i z,   s(x~, sigma_i) = grad log p_i(x~),   x <- x + alpha_i s(x, sigma_i) + sqrt(2 alpha_i) z

NCSN is Song & Ermon 2019, NCSNv2 is Song & Ermon 2020. Noise and steps are those of pixels in [0, 1], as there.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from genbench import Batch, DataSpec, Model, Phase, hookimpl
from genbench.distributions import evenly_spread
from genbench.walks import Walk, end_of, reverse_chain
from genbench_score.annealing import annealed_langevin
from genbench_score.refinenet import RefineNet
from genbench_score.settings import PRESETS, ScoreConfig


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(Score)


class Score(Model):
    """A network of the score at every noise level, sampled by annealed Langevin dynamics."""

    name = "score"
    Config = ScoreConfig
    config: ScoreConfig
    presets = PRESETS
    conditional = True
    discrete = True
    bf16 = False  # at the smallest noise scores are in the hundreds, and steps on them smaller than a digit of bfloat16
    sigmas: Tensor
    shares: Tensor

    def __init__(self, data: DataSpec, config: ScoreConfig) -> None:
        super().__init__(data, config)
        self.levels = config.sigmas(data)
        self.pace = config.pace(self.levels)
        self.register_buffer("sigmas", torch.tensor(self.levels), persistent=False)
        shares = torch.tensor(config.shares(self.levels), dtype=torch.float64)
        self.register_buffer("shares", shares.cumsum(0).float(), persistent=False)
        self.net = config.build(data, len(self.levels))

    @property
    def nfe(self) -> int:
        return len(self.levels) * self.config.steps + self.config.denoise

    def phases(self) -> list[Phase]:
        return [self.config.phase("train", self.net, self.config.learning_rate, warmup=self.config.warmup)]

    def score(self, x: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        """s(x, sigma) of pixels in [0, 1] with noise, (B, C, H, W), at levels, int64 (B,), counted from 0."""
        told = level if self.config.told else torch.zeros_like(level)
        out = self.network(2 * x - 1, told, labels)
        return out / self.at(level) if self.config.divided else out

    def network(self, images: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        """What the network makes of images in [-1, 1] with noise. Their level is 0 if it is not to be told."""
        if isinstance(self.net, RefineNet):
            row = level if labels is None else level * self.data.num_classes + labels
            out: Tensor = self.net(images, row)
        elif self.config.told and self.config.divided:
            out = self.preconditioned(images, level, labels)
        else:
            scale = (1 + images.square().mean((1, 2, 3), keepdim=True)).rsqrt()
            out = self.net(scale * images, self.per_mille(level), labels)
        return out

    def preconditioned(self, images: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        """sigma times the score by a network that sees images of one size at all levels, and predicts v.

        With s = 2 sigma, the noise of images in [-1, 1], these are y = cos x + sin z with cos = 1 / sqrt(1 + s^2), and
        z = sin y + cos v. Where noise is all, what the network does not know yet is a small part of the score. Sources:
        Karras et al. 2022, section 5, with data of variance 1; v: Salimans & Ho 2022, appendix D.
        """
        s = 2 * self.at(level)
        cos = (1 + s.square()).rsqrt()
        y = cos * images
        v: Tensor = self.net(y, self.per_mille(level), labels)
        return -cos * (s * y + v)

    def per_mille(self, level: Tensor) -> Tensor:
        """Levels on a scale of 0 to 1,000, which suits a network's embedding of time."""
        return level * (1000 / len(self.levels))

    def at(self, level: Tensor) -> Tensor:
        """The noise of levels (B,), (B, 1, 1, 1)."""
        return self.sigmas[level].view(-1, 1, 1, 1)

    def loss(self, phase: str, batch: Batch) -> Tensor:
        """Denoising score matching, weighted by sigma^2, per dimension. Source: Song & Ermon 2019, eq. 5 and 6.

        Levels that are drawn as `ddpm` draws its times are weighted as there, by 1 + 4 sigma^2 more: the error of v.
        """
        x = (batch.images + 1) / 2
        if self.config.dequantize:
            x = x + (torch.rand_like(x) - 0.5) / 256
        level = self.drawn(len(x))
        sigma, z = self.at(level), torch.randn_like(x)
        error = (sigma * self.score(x + sigma * z, level, batch.labels) + z).square()
        if self.config.draws == "logit_normal":
            error = (1 + 4 * sigma.square()) * error
        return error.mean() / 2

    def drawn(self, n: int) -> Tensor:
        """Levels, int64 (n,), spread evenly over the batch."""
        even = evenly_spread(n, self.shares.device)
        return torch.searchsorted(self.shares, even, right=True).clamp(max=len(self.levels) - 1)

    def walk(self, n: int, labels: Tensor | None) -> Walk:
        """From uniform noise to `n` samples, images in [-1, 1] with noise, at times L to 0."""

        def score(i: int, x: Tensor) -> Tensor:
            return self.score(x, torch.full((n,), i, device=x.device), labels)

        start = torch.rand(n, *self.data.shape, device=self.sigmas.device)
        config = self.config
        for t, x in annealed_langevin(start, score, self.levels, config.steps, *self.pace, config.denoise):
            self.report(1 - t / len(self.levels))
            yield t, 2 * x - 1

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        return end_of(self.walk(n, labels)).clamp(-1, 1)

    def reverse_chain(self, n: int, count: int, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return reverse_chain(self.walk(n, labels), len(self.levels), count)

    def forward_chain(self, images: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Images with the noise of some levels: the variance that each adds to the one before is drawn afresh."""
        times = torch.unique(torch.linspace(0, len(self.levels), count, device=images.device).round().long())
        variances = torch.cat([self.sigmas.new_zeros(1), self.sigmas.flip(0).square()])[times]
        states = [images]
        for added in variances.diff():
            states.append(states[-1] + 2 * added.sqrt() * torch.randn_like(images))
        return times, torch.stack(states)
