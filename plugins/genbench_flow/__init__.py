"""Normalizing flow: multi-scale couplings with an exact likelihood (Dinh et al. 2017; Durkan et al. 2019)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench import Batch, DataSpec, Model, Phase, adamw, hookimpl
from genbench.condition import Given
from genbench.hookspecs import Calibration
from genbench.images import bits_per_dim, to_float, to_uint8
from genbench.schedules import annealed
from genbench_flow.bases import Base, Normal, StandardLogistic, UniformImage
from genbench_flow.calibration import log_determinants
from genbench_flow.dequantizer import Dequantizer
from genbench_flow.glow import glow_levels
from genbench_flow.lattice import lattice_levels
from genbench_flow.layers import ActNorm, Level
from genbench_flow.settings import FlowConfig
from genbench_flow.transforms import Affine, FittedFront, Front, LinearFront, Logistic, LogitFront, Spline, Transform

CLIP = 10.0
FRONTS: Mapping[str, Callable[[float], Front]] = {
    "auto": FittedFront, "logit": LogitFront, "linear": lambda alpha: LinearFront(),
}  # fmt: skip


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(Flow)


@hookimpl
def register_calibrations(register: Callable[[str, Calibration], None]) -> None:
    register("flow", lambda: log_determinants(Flow))


class Flow(Model):
    """log p(x) = log p(z) + log |det dz/dx|, z = f(x).

    On the lattice every level transforms the pixels off its coarser grid, given those on it, then passes the grid on: a
    pixel's conditional density is one transform, and sampling runs through the levels from coarse to fine. The coarsest
    pixels are drawn one after the other, each given those before it. Splines and logistics stay within the front's box:
    the density integrates to exactly one on [-1, 1). With splines alone z is uniform on [-1, 1) seen through the front,
    and an untrained flow has 8 bits/dim; behind logistics z is logistic, and otherwise standard normal. Sides that
    levels do not divide are padded with pixels that every transform keeps at 0, and that are in no density.

    With variational dequantisation the levels y get noise u ~ q(u|y), learned with the flow, and what is returned for
    log p(x) is one draw of log p(x(y, u)) - log q(u|y), whose mean is a lower bound.
    """

    name = "flow"
    Config = FlowConfig
    config: FlowConfig
    conditional = True
    conditions = ("hole", "image")
    bf16 = True  # under autocast only the networks compute in bfloat16; transforms and determinants stay in float32
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"levels": 2, "steps": 2, "width": 16, "blocks": 1},
        "small": {},
        "affine": {"coupling": "affine", "front": "logit", "learning_rate": 1.2e-2},
        # Kingma & Dhariwal 2018, the model of CIFAR-10's bits/dim: table 1's layers with affine couplings, Adam with
        # its default decay rates and a warm-up of ten epochs, no logit on the pixels, no average of the weights.
        "paper": {
            "mixing": "conv", "coupling": "affine", "levels": 3, "steps": 32, "width": 512, "batch_size": 512,
            "learning_rate": 1e-3, "annealing": "constant", "warmup": 977, "betas": (0.9, 0.999), "front": "linear",
            "ema_decay": 0.0,
        },
    }  # fmt: skip

    def __init__(self, data: DataSpec, config: FlowConfig) -> None:
        super().__init__(data, config)
        self.front = FRONTS[config.front_of(data)](config.alpha)
        self.dequantizer = Dequantizer(data, config) if config.dequantization == "variational" else None
        self.likelihood = "exact" if self.dequantizer is None else "bound"  # type: ignore[misc]
        self.base = self.base_of(config.transform_of(data))
        build = lattice_levels if config.mixing == "lattice" else glow_levels
        depth, self.beyond = config.halvings_of(data), config.padding_of(data)
        self.levels: Sequence[Level] = nn.ModuleList(build(data, config, depth, self.transform))  # type: ignore[assignment]
        if len(self.levels) == 0:
            raise ValueError(f"flow: mixing = 'conv' halves the sides of an image, and {data.shape} has odd ones")

    @property
    def likelihood_note(self) -> str:
        return "" if self.dequantizer is None else "variational dequantisation"

    @property
    def nfe(self) -> int:
        """On the lattice the coarsest pixels are drawn one after the other; all other networks are called once."""
        last = self.levels[-1]
        return self.config.steps * len(last.leave) if self.config.mixing == "lattice" else 1

    def base_of(self, transform: str) -> Base:
        """What latents are drawn from."""
        if transform == "logistic":
            return StandardLogistic()
        return UniformImage(self.front) if (self.config.mixing, transform) == ("lattice", "spline") else Normal()

    def transform(self, earlier: int) -> Transform:
        """The transform of values that have gone through `earlier` ones: a logistic takes them out of their box."""
        kind = self.config.transform_of(self.data)
        if kind == "affine":
            return Affine()
        if kind == "logistic" and not earlier:
            return Logistic(self.config.bins, self.front.bound)
        return Spline(self.config.bins, Logistic.reach if kind == "logistic" else self.front.bound)

    def encode(self, images: Tensor, given: Given = None) -> tuple[list[Tensor], Tensor]:
        """The latents of every level, finest first, and log |det dz/dx| in nats per image (B,).

        Computed in the precision of `images`, except for the networks: `decode` inverts it up to rounding for float64
        images, and up to about a tenth of a grey level for float32 images.
        """
        x, log_det = self.front(images)
        x = F.pad(x, (0, self.beyond[1], 0, self.beyond[0]))
        latents = []
        for level in self.levels:
            x, z, change = level(x, given)
            latents.append(z)
            log_det = log_det + change
        return latents, log_det

    def decode(self, latents: list[Tensor], given: Given = None) -> Tensor:
        """The images that `encode` maps to these latents."""
        x = latents[-1][:, :0]
        for done, (level, z) in enumerate(zip(reversed(self.levels), reversed(latents)), 1):
            x = level.inverse(x, z, given)
            self.report(done / len(latents))
        height, width = self.data.shape[1:]
        return self.front.inverse(x[..., :height, :width])

    def base_log_prob(self, latents: list[Tensor]) -> Tensor:
        """log p(z), nats per image (B,), without the pixels beyond the image, which are 0 throughout."""
        whole = torch.stack([self.base.log_prob(z).flatten(1).sum(1) for z in latents]).sum(0)
        outside = sum(z[0].numel() for z in latents) - self.data.dims
        return whole - outside * self.base.log_prob(whole.new_zeros(()))

    def base_sample(self, n: int) -> list[Tensor]:
        """Latents of `n` images, in the shapes that `encode` returns, multiplied by the temperature.

        On the lattice those of the coarsest pixels are not scaled: they decide what is drawn, the finer ones how.
        """
        h, w = (side + more for side, more in zip(self.data.shape[1:], self.beyond))
        device = next(self.parameters()).device
        latents = []
        for level in self.levels:
            h, w = h // level.factor[0], w // level.factor[1]
            whole = self.config.mixing == "lattice" and level is self.levels[-1]
            z = self.base.draw((n, len(level.leave), h, w), device) * (1.0 if whole else self.config.temperature)
            latents.append(z.clamp(-self.base.bound, self.base.bound))
        return latents

    def log_prob(self, images: Tensor, given: Given = None) -> Tensor:
        """log p(x) of dequantised images, nats per image (B,), or one draw of its bound given their levels."""
        if self.dequantizer is None:
            return self.log_density(images, given)
        centres = to_float(to_uint8(images)).to(images.dtype)
        dequantized, minus_log_q = self.dequantizer(centres, given)
        bound: Tensor = self.log_density(dequantized, given) + minus_log_q
        return bound

    def log_density(self, images: Tensor, given: Given = None) -> Tensor:
        """log p(x), nats per image (B,)."""
        latents, log_det = self.encode(images, given)
        return log_det + self.base_log_prob(latents)

    def loss(self, phase: str, batch: Batch) -> Tensor:
        log_prob = self.log_prob(batch.images, batch.given)
        return bits_per_dim(log_prob, self.data.dims, discrete=False).mean()

    def sample(self, n: int, given: Given = None) -> Tensor:
        return self.decode(self.base_sample(n), given).clamp(-1, 1)

    def interpolate(self, first: Tensor, second: Tensor, weights: Tensor, given: Given = None) -> Tensor:
        """Straight between the latents of both images; a weight of 0 or 1 gives back the image itself."""
        here, there = (self.encode(images, given)[0] for images in (first, second))
        between = [[torch.lerp(a, b, weight) for a, b in zip(here, there)] for weight in weights]
        return torch.stack([self.decode(latents, given).clamp(-1, 1) for latents in between])

    @torch.no_grad()
    def prepare(self, phase: str, batch: Batch) -> None:
        if isinstance(self.front, FittedFront):
            self.front.fit(batch.images)
        for module in self.modules():
            if isinstance(module, ActNorm):
                module.pending = True
        self.log_prob(batch.images, batch.given)

    def phases(self) -> list[Phase]:
        c = self.config
        optimizer, schedule = adamw(self, c.learning_rate, c.betas), annealed(c.annealing, c.warmup)
        return [Phase("train", self, optimizer, schedule=schedule, clip=CLIP, warmup=c.warmup)]
