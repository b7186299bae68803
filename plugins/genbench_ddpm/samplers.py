"""From noise to data with a `Denoiser`, whatever the network behind it.

A sampler is a walk: an iterator over (t, x_t) from where it starts down to t = 0, whose end is the sample. Each is one
entry of `SAMPLERS`, from which its name among the options, its cost and its documentation follow; an option that only
samplers have is a field of `SamplerConfig`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from genbench import Config, field
from genbench.walks import Walk
from genbench_ddpm.diffusion import Denoiser, Diffusion, Estimate
from genbench_ddpm.grids import ABOUT_GRIDS, GRIDS, GridName, grid_times
from genbench_ddpm.guidance import Guide

Step = Callable[[Tensor, int, int], Tensor]
"""(x_now, now, then) -> x_then."""


def ancestral(
    diffusion: Diffusion, denoise: Denoiser, noise: Tensor, start: int | None = None, guide: Guide | None = None
) -> Walk:
    """With p(x_{t-1} | x_t) from `noise`, x_T or x_start; the last step adds none. A guide g moves the mean by Sigma g.

    Sources: Ho et al. 2020, algorithm 2; Dhariwal & Nichol 2021, algorithm 1.
    """
    x, start = noise, diffusion.steps if start is None else start
    yield start, x
    for step in range(start, 0, -1):
        t = torch.full((len(x),), step, device=x.device)
        x0, variance, _ = denoise(x, t)
        mean = diffusion.posterior_mean(x0, x, t)
        if guide is not None:
            mean = mean + variance * guide(x, t)
        x = mean + variance.sqrt() * torch.randn_like(x) if step > 1 else mean
        yield step - 1, x


def kept_times(total: int, steps: int) -> list[int]:
    """`steps` times from 1 to T, ascending, evenly spaced; if one, T. Source: Nichol & Dhariwal 2021, section 4."""
    return [total if steps == 1 else 1 + round((total - 1) * k / (steps - 1)) for k in range(steps)]


def respaced(
    diffusion: Diffusion,
    denoise: Denoiser,
    noise: Tensor,
    steps: int = 50,
    start: int | None = None,
    guide: Guide | None = None,
    grid: GridName = "time",
) -> Walk:
    """The ancestral steps of a shorter process, whose network, and guide, are told the times of the whole one.

    A learned variance is between the extremes of the shorter process. Evenly in t, its times end in 1. Source: Nichol &
    Dhariwal 2021, section 4.
    """
    start = diffusion.steps if start is None else start
    if grid == "time":
        times = [0, *kept_times(start, min(steps, start))]
    else:
        times = grid_times(grid, diffusion.levels, start, steps)[::-1]
    shorter, told = diffusion.respaced(times[1:]), torch.tensor(times, device=noise.device)

    def denoise_shorter(x: Tensor, t: Tensor) -> Estimate:
        x0, _, fraction = denoise(x, told[t])
        return Estimate(x0, shorter.variance(x, t, fraction))

    def guide_shorter(x: Tensor, t: Tensor) -> Tensor:
        assert guide is not None
        return guide(x, told[t])

    for step, x in ancestral(shorter, denoise_shorter, noise, guide=guide and guide_shorter):
        yield times[step], x


def ddim_variance(diffusion: Diffusion, now: int, then: int, eta: float) -> Tensor:
    """sigma^2 of the jump from t = `now` to `then`; the posterior's at eta = 1. Source: Song et al. 2021, eq. 16."""
    a, b = diffusion.alpha_bar[now], diffusion.alpha_bar[then]
    return eta**2 * (1 - b) / (1 - a) * (1 - a / b)


def jump(diffusion: Diffusion, x: Tensor, x0: Tensor, now: int, then: int, eta: float = 0.0) -> Tensor:
    """x_then from x_now if the data were x0. Source: Song et al. 2021, eq. 12."""
    eps = (x - diffusion.signal[now].to(x.dtype) * x0) / diffusion.noise[now].to(x.dtype)
    variance = ddim_variance(diffusion, now, then, eta)
    direction = (1 - diffusion.alpha_bar[then] - variance).clamp(min=0).sqrt().to(x.dtype)
    x = diffusion.signal[then].to(x.dtype) * x0 + direction * eps
    if eta > 0 and then > 0:
        x = x + variance.sqrt().to(x.dtype) * torch.randn_like(x)
    return x


def estimator(denoise: Denoiser) -> Callable[[Tensor, int], Tensor]:
    """(x_t, t) -> the estimate of x_0, for one time of all images."""
    return lambda x, time: denoise(x, torch.full((len(x),), time, device=x.device)).x0


def stepwise(diffusion: Diffusion, noise: Tensor, steps: int, start: int | None, grid: GridName, step: Step) -> Walk:
    """From `noise`, which is x_T or x_start, along a grid's times, x_then = step(x_now, now, then)."""
    x, start = noise, diffusion.steps if start is None else start
    yield start, x
    for now, then in pairwise(grid_times(grid, diffusion.levels, start, steps)):
        x = step(x, now, then)
        yield then, x


def ddim(
    diffusion: Diffusion,
    denoise: Denoiser,
    noise: Tensor,
    steps: int = 50,
    eta: float = 0.0,
    start: int | None = None,
    grid: GridName = "time",
) -> Walk:
    """In `steps` network calls from `noise`, the only noise at eta = 0.

    Source: Song et al. 2021, eq. 12.
    """
    estimate = estimator(denoise)

    def step(x: Tensor, now: int, then: int) -> Tensor:
        return jump(diffusion, x, estimate(x, now), now, then, eta)

    return stepwise(diffusion, noise, steps, start, grid, step)


def dpm_solver(
    diffusion: Diffusion,
    denoise: Denoiser,
    noise: Tensor,
    steps: int = 50,
    eta: float = 0.0,
    start: int | None = None,
    grid: GridName = "time",
) -> Walk:
    """DDIM whose x_0 is what the last two estimates say of the middle of the step, in lambda: of second order.

    The first step has one estimate, and the last goes to lambda = inf: both are DDIM's. At eta = 0 it is DPM-Solver++
    (2M), at eta = 1 SDE-DPM-Solver++ (2M). Source: Lu et al. 2022b, algorithm 2.
    """
    estimate, levels = estimator(denoise), diffusion.levels
    before: tuple[Tensor, float] | None = None

    def step(x: Tensor, now: int, then: int) -> Tensor:
        nonlocal before
        found = x0 = estimate(x, now)
        if before is not None and then > 0:
            earlier, level = before
            x0 = found + (levels[then] - levels[now]) / (levels[now] - level) / 2 * (found - earlier)
        before = found, levels[now]
        return jump(diffusion, x, x0, now, then, eta)

    return stepwise(diffusion, noise, steps, start, grid, step)


def heun(
    diffusion: Diffusion,
    denoise: Denoiser,
    noise: Tensor,
    steps: int = 18,
    start: int | None = None,
    grid: GridName = "time",
) -> Walk:
    """Each of the steps but the last, which is DDIM's, is taken again with the mean of x_0 before and after it.

    As dz / d rho = x_0 for z = x / sigma and rho = alpha / sigma, that is Heun's method, of second order, in rho, where
    DDIM is Euler's; in 1 / rho, as in Karras et al. 2022 (algorithm 1), the first step from hardly any signal would
    multiply the errors of x_0 by the ratio of both sigmas.
    """
    estimate = estimator(denoise)

    def step(x: Tensor, now: int, then: int) -> Tensor:
        x0 = estimate(x, now)
        if then > 0:
            x0 = (x0 + estimate(jump(diffusion, x, x0, now, then), then)) / 2
        return jump(diffusion, x, x0, now, then)

    return stepwise(diffusion, noise, steps, start, grid, step)


@dataclass(frozen=True)
class Sampler:
    """One way from noise to data: `walk(diffusion, denoise, noise, start=..., **options)` yields (t, x_t).

    `options` names the fields of `SamplerConfig` that it reads. One without `steps` visits all T noise levels. `calls`
    gives the network calls of so many steps. `grid` is what its times are even in unless another is asked for. One that
    `moves_means` takes the `guide` of a classifier; for any other it moves the estimates of x_0 (`guidance.steered`).
    """

    about: str
    walk: Callable[..., Walk]
    options: tuple[str, ...] = ()
    calls: Callable[[int], int] = int
    grid: GridName = "time"
    moves_means: bool = False


SAMPLERS = {
    "ddim": Sampler("`steps` steps with the noise `eta` (Song et al. 2021)", ddim, ("steps", "eta", "grid")),
    "ancestral": Sampler(
        "every noise level, by the learned reverse process (Ho et al. 2020)", ancestral, moves_means=True
    ),
    "respaced": Sampler(
        "the same on `steps` of the noise levels (Nichol & Dhariwal 2021)",
        respaced,
        ("steps", "grid"),
        moves_means=True,
    ),
    "dpm_solver": Sampler(
        "DPM-Solver++ (2M), `steps` steps of second order with the noise `eta` (Lu et al. 2022)",
        dpm_solver,
        ("steps", "eta", "grid"),
        grid="karras",
    ),
    "heun": Sampler(
        "`steps` steps of second order with two network calls each, but one in the last (Karras et al. 2022)",
        heun,
        ("steps", "grid"),
        calls=lambda steps: 2 * steps - 1,
        grid="log_snr",
    ),
}
OWN = "own"
"""The grid that stands for the sampler's."""
if TYPE_CHECKING:
    Name = str
    GridChoice = str
else:
    Name = Literal[tuple(SAMPLERS)]
    GridChoice = Literal[(OWN, *GRIDS)]
ABOUT = "how samples are drawn: " + "; ".join(f"{name}, {sampler.about}" for name, sampler in SAMPLERS.items())


def reading(option: str) -> list[str]:
    """The samplers that read an option."""
    return [name for name, sampler in SAMPLERS.items() if option in sampler.options]


ABOUT_TIMES = f"{ABOUT_GRIDS}; {OWN}, " + ", ".join(f"{SAMPLERS[name].grid} for {name}" for name in reading("grid"))


def steps_of(default: int, whose: str = "") -> Any:
    """The field of how many steps a sampler takes, in all or in one stage."""
    told = f"{whose}steps, at most as many as there are noise levels"
    return field(default, "sample", told, ge=1, only_with={"sampler": reading("steps")})


class SamplerConfig(Config):
    """How samples are drawn."""

    sampler: Name = field("dpm_solver", "sample", ABOUT)
    steps: int = steps_of(12)
    grid: GridChoice = field(OWN, "sample", ABOUT_TIMES, only_with={"sampler": reading("grid")})
    eta: float = field(
        1.0, "sample", "noise, 0 for none, 1 for the posterior's variance", ge=0, le=1,
        only_with={"sampler": reading("eta")},
    )  # fmt: skip

    @property
    def chosen(self) -> Sampler:
        """The entry of `SAMPLERS`."""
        return SAMPLERS[self.sampler]

    @property
    def sampler_options(self) -> dict[str, Any]:
        """The options that the chosen sampler reads, by name."""
        chosen = {name: getattr(self, name) for name in self.chosen.options}
        return chosen | {"grid": self.chosen.grid} if chosen.get("grid") == OWN else chosen
