"""Solvers of dx/dt = v(x, t), and the divergence of v, by which the density of what it carries changes."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from genbench.walks import last

Velocity = Callable[[Tensor, float], Tensor]
"""(x, t) -> dx/dt, of the shape of x (B, ...)."""


Step = Callable[[Velocity, Tensor, float, float], Tensor]
"""(v, x, t, h) -> x at time t + h."""
Way = Callable[[Velocity, Tensor, Sequence[float]], Iterator[Tensor]]
"""(v, x, times) -> x (B, ...) at each of the times, ascending or descending; it is given at the first."""


def euler(v: Velocity, x: Tensor, t: float, h: float) -> Tensor:
    """x at time t + h by one evaluation: of order 1."""
    return x + h * v(x, t)


def midpoint(v: Velocity, x: Tensor, t: float, h: float) -> Tensor:
    """x at time t + h with the velocity half-way: of order 2."""
    return x + h * v(x + h / 2 * v(x, t), t + h / 2)


def heun(v: Velocity, x: Tensor, t: float, h: float) -> Tensor:
    """x at time t + h with the mean of the velocities at both ends: of order 2."""
    here = v(x, t)
    return x + h / 2 * (here + v(x + h * here, t + h))


def by(step: Step) -> Way:
    """The way in steps that know nothing of those before."""

    def way(v: Velocity, x: Tensor, times: Sequence[float]) -> Iterator[Tensor]:
        yield x
        for t, then in pairwise(times):
            x = step(v, x, t, then - t)
            yield x

    return way


def adams(v: Velocity, x: Tensor, times: Sequence[float]) -> Iterator[Tensor]:
    """A `Way` by the velocity here and at the time before, one evaluation a step: of order 2. The first is Euler's.

    Source: the method of Adams and Bashforth in steps of any length (Hairer, Norsett & Wanner 1993, section III.5).
    """
    yield x
    before: tuple[Tensor, float] | None = None
    for t, then in pairwise(times):
        velocity, h = v(x, t), then - t
        change = velocity if before is None else velocity + h / (2 * before[1]) * (velocity - before[0])
        x, before = x + h * change, (velocity, h)
        yield x


@dataclass(frozen=True)
class Solver:
    """One way from noise to data, and how often a step of it evaluates the velocity."""

    way: Way
    calls: int


SOLVERS = {
    "euler": Solver(by(euler), 1),
    "midpoint": Solver(by(midpoint), 2),
    "heun": Solver(by(heun), 2),
    "adams": Solver(adams, 1),
}
LIKELIHOOD_SOLVER = "midpoint"
"""Whatever draws samples: Euler's error would be taken for probability (0.5 bits/dim of digits, in 40 steps)."""


def sampling_times(steps: int, halvings: int) -> list[float]:
    """Times from 0 up to 1 in equal steps, the last of which is halved so often: to a half of it, of what is left, ...

    In a last step that is longer than the details of images are strong, samples lose these.
    """
    levels = [k / steps for k in range(steps, 0, -1)] + [2.0**-k / steps for k in range(1, halvings + 1)]
    return [1 - level for level in levels] + [1.0]


def likelihood_times(steps: int, nearest: float = 1e-3) -> list[float]:
    """Times from 1 down to 0 whose noise levels, 1 - t, grow geometrically, as `nearest` does to 1 + `nearest`.

    The density of images changes most where the noise is as small as what distinguishes them.
    """
    return [1 - nearest * ((1 + 1 / nearest) ** (k / steps) - 1) for k in range(steps + 1)]


def directions(x: Tensor, probes: int) -> list[Tensor]:
    """Of the shape of x (B, ...): so many of random signs, whose squares sum to 1; for 0, all of the unit vectors."""
    if not probes:
        units = torch.eye(x[0].numel(), dtype=x.dtype, device=x.device)
        return list(units.view(-1, 1, *x.shape[1:]).expand(-1, *x.shape))
    signs = [2.0 * torch.randint_like(x, 2) - 1 for _ in range(probes)]
    return [sign / math.sqrt(probes) for sign in signs]


def with_divergence(v: Velocity, x: Tensor, t: float, along: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """v(x, t), and the sum of e . (dv/dx) e over the e of `along`, each of the shape of x, (B,); both detached.

    With the D unit vectors it is the divergence; with one direction of independent signs, Hutchinson's estimate of it,
    which has no bias. Source: Grathwohl et al. 2019, equation 7.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        velocity = v(x, t)
        trace = x.new_zeros(len(x))
        for e in along:
            (row,) = torch.autograd.grad(velocity, x, e, retain_graph=True)
            trace = trace + (row * e).flatten(1).sum(1)
    return velocity.detach(), trace


def change_of_density(
    solver: Solver, v: Velocity, x: Tensor, times: Sequence[float], along: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """x (B, ...) carried from the first to the last of the times, and the integral of the divergence, nats (B,).

    The latter is the log density at the start minus that at the end. Source: Chen et al. 2018, equation 8.
    """
    shape = x.shape

    def both(state: Tensor, t: float) -> Tensor:
        velocity, trace = with_divergence(v, state[:, :-1].reshape(shape), t, along)
        return torch.cat([velocity.flatten(1), trace[:, None]], dim=1)

    state = torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], dim=1)
    state = last(solver.way(both, state, times))
    return state[:, :-1].reshape(shape), state[:, -1]
