"""Normalizing flow: multi-scale couplings with an exact likelihood (Dinh et al. 2017; Durkan et al. 2019)."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from genbench import Batch, Config, DataSpec, Model, Phase, adamw, field, hookimpl
from genbench.hookspecs import Calibration
from genbench.images import bits_per_dim, to_float, to_uint8
from genbench.schedules import annealed
from genbench_flow.calibration import log_determinants
from genbench_flow.dequantizer import Dequantizer
from genbench_flow.glow import glow_levels
from genbench_flow.lattice import lattice_levels
from genbench_flow.layers import ActNorm, Level
from genbench_flow.transforms import Affine, LinearFront, LogitFront, Spline

CLIP = 10.0


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(Flow)


@hookimpl
def register_calibrations(register: Callable[[str, Calibration], None]) -> None:
    register("flow", lambda: log_determinants(Flow))


class FlowConfig(Config):
    batch_size: int = field(32, "train", "images per update", ge=1)
    learning_rate: float = field(5e-3, "train", "peak learning rate (AdamW)", gt=0)
    annealing: Literal["cosine", "constant"] = field(
        "cosine", "train", "the learning rate behind its warm-up: down by half a cosine, or constant, as published"
    )
    warmup: int = field(0, "train", "steps over which the learning rate rises; 0: the first 2 % of the budget", ge=0)
    betas: tuple[float, float] = field((0.9, 0.99), "train", "AdamW's decay rates")
    dequantization: Literal["uniform", "variational"] = field(
        "uniform", "train", "noise that makes levels continuous: uniform, or learned (Ho et al. 2019; then a bound)"
    )
    front: Literal["logit", "linear"] = field(
        "logit", "train", "what pixels go through first: a logit, or a factor alone, as in Glow"
    )
    mixing: Literal["lattice", "conv"] = field(
        "lattice", "train", "what couplings split: sub-lattices of pixels, coarse to fine, or Glow's mixed channels"
    )
    coupling: Literal["affine", "spline"] = field("spline", "train", "elementwise transform of a coupling")
    levels: int = field(3, "train", "halvings of the resolution, at most; sides are halved only while even", ge=1)
    steps: int = field(1, "train", "autoregressions of the coarsest pixels (lattice), or steps a level (conv)", ge=1)
    width: int = field(
        32, "train", "channels of a network; on the lattice of the finest level's, twice as many below", ge=1
    )
    blocks: int = field(2, "train", "residual convolutions of a network; twice as many below, too (lattice)", ge=0)
    bins: int = field(8, "train", "bins of a spline", ge=2, le=100)
    alpha: float = field(1e-3, "train", "margin that keeps the front's logit finite", gt=0, lt=0.5)
    temperature: float = field(
        1.0, "sample", "factor of the latents drawn, on the lattice of the finer pixels'; 1: as the density", gt=0
    )


class Flow(Model):
    """log p(x) = log p(z) + log |det dz/dx|, z = f(x).

    On the lattice every level first transforms the pixels off its coarser grid, given those on it, then goes on with
    the grid: a pixel's conditional density is one spline, and the levels run from coarse to fine in sampling. The
    coarsest pixels come one after the other, each given those before it. Splines keep to the front's box, and z is
    uniform on [-1, 1) seen through the front: the density integrates to exactly one on [-1, 1), and an untrained flow
    has 8 bits/dim. Otherwise z is standard normal.

    With variational dequantisation the levels y get noise u ~ q(u|y) of the flow's own, and what is returned for
    log p(x) is one draw of log p(x(y, u)) - log q(u|y), whose mean is a lower bound.
    """

    name = "flow"
    Config = FlowConfig
    config: FlowConfig
    conditional = True
    bf16 = True  # under autocast only the networks compute in bfloat16; transforms and determinants stay in float32
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"levels": 2, "steps": 2, "width": 16, "blocks": 1},
        "small": {},
        "affine": {"coupling": "affine", "learning_rate": 1.2e-2},
        # Kingma & Dhariwal 2018, the model of CIFAR-10's bits/dim: table 1's layers with affine couplings, Adam at its
        # own decay rates and a warm-up of ten epochs, pixels without a logit, weights without an average.
        "paper": {
            "mixing": "conv", "coupling": "affine", "levels": 3, "steps": 32, "width": 512, "batch_size": 512,
            "learning_rate": 1e-3, "annealing": "constant", "warmup": 977, "betas": (0.9, 0.999), "front": "linear",
            "ema_decay": 0.0,
        },
    }  # fmt: skip

    def __init__(self, data: DataSpec, config: FlowConfig) -> None:
        super().__init__(data, config)
        self.front = LogitFront(config.alpha) if config.front == "logit" else LinearFront()
        self.dequantizer = Dequantizer(data, config) if config.dequantization == "variational" else None
        self.likelihood = "exact" if self.dequantizer is None else "bound"  # type: ignore[misc]
        self.boxed = (config.mixing, config.coupling) == ("lattice", "spline")
        build = lattice_levels if config.mixing == "lattice" else glow_levels
        self.levels: Sequence[Level] = nn.ModuleList(build(data, config, self.depth(), self.transform))  # type: ignore[assignment]
        if len(self.levels) == 0:
            raise ValueError(f"flow: mixing = 'conv' halves the sides of an image, and {data.shape} has odd ones")

    @property
    def likelihood_note(self) -> str:
        return "" if self.dequantizer is None else "variational dequantisation"

    @property
    def nfe(self) -> int:
        """On the lattice the coarsest pixels are drawn one after the other; every other network is called once."""
        last = self.levels[-1]
        return self.config.steps * len(last.leave) if self.config.mixing == "lattice" else 1

    def depth(self) -> int:
        """Levels that the image allows."""
        height, width = self.data.shape[1:]
        return next(n for n in range(self.config.levels + 1) if n == self.config.levels or (height | width) >> n & 1)

    def transform(self) -> Affine | Spline:
        return Spline(self.config.bins, self.front.bound) if self.config.coupling == "spline" else Affine()

    def encode(self, images: Tensor, labels: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """The latents of every level, finest first, and log |det dz/dx| in nats per image (B,).

        Computed in the precision of `images`, networks apart: of float64 images `decode` gives back all but rounding,
        of float32 images all but about a tenth of a grey level.
        """
        x, log_det = self.front(images)
        latents = []
        for level in self.levels:
            x, z, change = level(x, labels)
            latents.append(z)
            log_det = log_det + change
        return latents, log_det

    def decode(self, latents: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """The images that `encode` maps to these latents."""
        x = latents[-1][:, :0]
        for level, z in zip(reversed(self.levels), reversed(latents)):
            x = level.inverse(x, z, labels)
        return self.front.inverse(x)

    def base_log_prob(self, z: Tensor) -> Tensor:
        """log p(z), nats per image (B,): a uniform image's behind the front, or the standard normal."""
        log_prob = self.front.uniform_log_prob(z) if self.boxed else -0.5 * (z * z + math.log(2 * math.pi))
        return log_prob.flatten(1).sum(1)

    def base_sample(self, n: int) -> list[Tensor]:
        """Latents of `n` images, in the shapes that `encode` returns, multiplied by the temperature.

        On the lattice those of the coarsest pixels are not: they decide what is drawn, the finer ones how.
        """
        (_, h, w), device = self.data.shape, next(self.parameters()).device
        latents = []
        for level in self.levels:
            h, w = h // level.factor[0], w // level.factor[1]
            whole = self.config.mixing == "lattice" and level is self.levels[-1]
            z = self.draw((n, len(level.leave), h, w), device) * (1.0 if whole else self.config.temperature)
            latents.append(z.clamp(-self.front.bound, self.front.bound) if self.boxed else z)
        return latents

    def draw(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Base noise."""
        if not self.boxed:
            return torch.randn(shape, device=device)
        z: Tensor = self.front(torch.rand(shape, device=device) * 2 - 1)[0]
        return z

    def log_prob(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(x) of dequantised images in nats per image (B,), or one draw of its bound given their levels."""
        if self.dequantizer is None:
            return self.log_density(images, labels)
        centres = to_float(to_uint8(images)).to(images.dtype)
        dequantized, minus_log_q = self.dequantizer(centres, labels)
        bound: Tensor = self.log_density(dequantized, labels) + minus_log_q
        return bound

    def log_density(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(x), nats per image (B,)."""
        latents, log_det = self.encode(images, labels)
        return log_det + torch.stack([self.base_log_prob(z) for z in latents]).sum(0)

    def loss(self, phase: str, batch: Batch) -> Tensor:
        log_prob = self.log_prob(batch.images, batch.labels)
        return bits_per_dim(log_prob, self.data.dims, discrete=False).mean()

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        return self.decode(self.base_sample(n), labels).clamp(-1, 1)

    def interpolate(self, first: Tensor, second: Tensor, weights: Tensor, labels: Tensor | None = None) -> Tensor:
        """Straight between the latents of both images; a weight of 0 or 1 gives back the image itself."""
        here, there = (self.encode(images, labels)[0] for images in (first, second))
        between = [[torch.lerp(a, b, weight) for a, b in zip(here, there)] for weight in weights]
        return torch.stack([self.decode(latents, labels).clamp(-1, 1) for latents in between])

    @torch.no_grad()
    def prepare(self, phase: str, batch: Batch) -> None:
        for module in self.modules():
            if isinstance(module, ActNorm):
                module.pending = True
        self.log_prob(batch.images, batch.labels)

    def phases(self) -> list[Phase]:
        c = self.config
        optimizer, schedule = adamw(self, c.learning_rate, c.betas), annealed(c.annealing, c.warmup)
        return [Phase("train", self, optimizer, schedule=schedule, clip=CLIP, warmup=c.warmup)]
