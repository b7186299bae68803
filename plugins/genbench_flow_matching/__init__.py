"""Flow matching (Lipman et al. 2023): regress the velocity that carries noise to data along straight lines.

    x_t = (1 - t) x_0 + t x_1,   min E |v(x_t, t) - (x_1 - x_0)|^2,   dx/dt = v(x, t) from x_0 ~ N(0, I) to x_1

This is their optimal-transport path with sigma_min = 0, and so it is rectified flow too (Liu et al. 2023). The
likelihood is that of the continuous flow (Chen et al. 2018).
"""

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from genbench import Batch, DataSpec, Model, Phase, field, hookimpl
from genbench.condition import Given, beside
from genbench.distributions import normal_log_prob
from genbench.walks import Walk, end_of, reported, reverse_chain
from genbench_ddpm.diffusion import drawn_shares
from genbench_ddpm.network import UNetConfig, null, with_waves
from genbench_flow_matching import ode
from genbench_flow_matching.presets import PRESETS


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(FlowMatching)


class FlowMatchingConfig(UNetConfig):
    """The settings of `flow_matching`; the defaults are the preset `small`."""

    fourier: tuple[int, ...] = field(
        (2,), "train", "n of the waves sin and cos(2^n pi x) that make small changes of a pixel visible to the network"
    )
    solver: Literal["euler", "midpoint", "heun", "adams"] = field(
        "adams",
        "sample",
        "how samples follow the ODE: euler and adams, which is of second order, call the network once a step, midpoint "
        "and heun twice",
    )
    steps: int = field(16, "sample", "steps of equal length from noise to data", ge=1)
    halvings: int = field(3, "sample", "how often the last step is halved, as the details of images ask for", ge=0)
    likelihood_steps: int = field(
        40, "sample", "midpoint steps from data to noise for the likelihood, short ones first", ge=1
    )
    probes: int = field(
        1, "sample", "random directions that estimate the divergence of v; 0: each dimension, exactly", ge=0
    )


class FlowMatching(Model):
    """A velocity field from noise to images; its likelihood is the density that it carries along."""

    name = "flow_matching"
    Config = FlowMatchingConfig
    config: FlowMatchingConfig
    presets = PRESETS
    conditional = True
    conditions = ("text", "map", "hole", "image", "vector")
    likelihood: ClassVar[Literal["exact", "bound", "estimate"]] = "estimate"

    def __init__(self, data: DataSpec, config: FlowMatchingConfig) -> None:
        super().__init__(data, config)
        self.solver = ode.SOLVERS[config.solver]
        self.times = ode.sampling_times(config.steps, config.halvings)
        self.net = config.unet(data.shape[0], data.shape[0], data, config.fourier)

    @property
    def nfe(self) -> int:
        return self.config.calls((len(self.times) - 1) * self.solver.calls)

    @property
    def likelihood_note(self) -> str:
        c = self.config
        trace = f"divergence by Hutchinson's estimator, probes = {c.probes}" if c.probes else "exact divergence"
        unguided = ", without guidance" if c.guidance != 1 else ""
        return f"ODE in {c.likelihood_steps} {ode.LIKELIHOOD_SOLVER} steps, {trace}{unguided}"

    def phases(self) -> list[Phase]:
        return [self.config.phase("train", self.net, self.config.learning_rate, warmup=self.config.warmup)]

    def v(self, x: Tensor, t: Tensor, given: Given) -> Tensor:
        """The velocity at times (B,). The network is told the noise, 1 - t, on a scale of 0 to 1,000."""
        seen, told = beside(with_waves(x, (1 - t).view(-1, 1, 1, 1), self.config.fourier), given, self.data.shape[1:])
        out: Tensor = self.net(seen, 1000 * (1 - t), told)
        return out.to(x.dtype)

    def loss(self, phase: str, batch: Batch) -> Tensor:
        """The mean squared error of the velocity.

        Sources: Lipman et al. 2023, equation 23; Liu et al. 2023, equation 1.
        """
        x1, x0 = batch.images, torch.randn_like(batch.images)
        t = drawn_shares(self.config.times_under(self.data.kind), len(x1), x1.device)
        x_t = torch.lerp(x0, x1, t.view(-1, 1, 1, 1))
        return F.mse_loss(self.v(x_t, t, self.config.kept(batch.given, self.data.num_classes)).float(), x1 - x0)

    def velocity(self, given: Given, guidance: float = 1.0) -> ode.Velocity:
        """v under conditions (B,), pushed away from the unconditional one as in Ho & Salimans 2022, equation 6."""

        def under(given: Given) -> ode.Velocity:
            return lambda x, t: self.v(x, x.new_full((len(x),), t), given)

        if guidance == 1 or given is None:
            return under(given)
        conditional, unconditional = under(given), under(null(given, self.data.num_classes))
        return lambda x, t: torch.lerp(unconditional(x, t), conditional(x, t), guidance)

    def walk(self, noise: Tensor, given: Given, back: bool = False) -> Walk:
        """From noise to images, or `back`, at times that count the steps which are still to go."""
        times = self.times[::-1] if back else self.times
        states = self.solver.way(self.velocity(given, self.config.guidance), noise, times)
        return zip(reversed(range(len(times))), reported(states, len(times), self.report))

    def noise(self, n: int) -> Tensor:
        """x_0, (n, C, H, W)."""
        return torch.randn(n, *self.data.shape, device=self.net.head.weight.device)

    def sample(self, n: int, given: Given = None) -> Tensor:
        return end_of(self.walk(self.noise(n), given)).clamp(-1, 1)

    def log_prob(self, images: Tensor, given: Given = None) -> Tensor:
        """log p(x) of dequantised images, nats per image (B,), as the solver and the divergence's estimate have it."""
        times, along = ode.likelihood_times(self.config.likelihood_steps), ode.directions(images, self.config.probes)
        solver = ode.SOLVERS[ode.LIKELIHOOD_SOLVER]
        noise, change = ode.change_of_density(solver, self.velocity(given), images, times, along)
        zero = noise.new_zeros(())
        return normal_log_prob(noise, zero, zero).flatten(1).sum(1) + change

    def forward_chain(self, images: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Images on their straight way to one draw of noise, at some of the sampler's times."""
        to_go = torch.unique(torch.linspace(0, len(self.times) - 1, count, device=images.device).round().long())
        noise = torch.randn_like(images)
        return to_go, torch.stack([torch.lerp(images, noise, 1 - self.times[-1 - k]) for k in to_go.tolist()])

    def reverse_chain(self, n: int, count: int, given: Given = None) -> tuple[Tensor, Tensor]:
        return reverse_chain(self.walk(self.noise(n), given), len(self.times) - 1, count)

    def interpolate(self, first: Tensor, second: Tensor, weights: Tensor, given: Given = None) -> Tensor:
        """On an arc between the noises that the ODE carries to both images; the conditions (B,) are those of both."""
        here, there = (end_of(self.walk(images, given, back=True)) for images in (first, second))
        angles = weights * (math.pi / 2)
        between = [torch.cos(angle) * here + torch.sin(angle) * there for angle in angles]
        return torch.stack([end_of(self.walk(noise, given)).clamp(-1, 1) for noise in between])
