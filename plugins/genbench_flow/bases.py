"""What a flow's latents are drawn from: elementwise densities on the real line, or in a box."""

import math
from typing import Protocol

import torch
from torch import Tensor

from genbench_flow.transforms import Front, logistic_log_prob


class Base(Protocol):
    """A density of latents, the same for each, in [-bound, bound]."""

    bound: float

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density, elementwise."""
        ...

    def draw(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Float32 latents."""
        ...


class Normal(Base):
    """The standard normal."""

    bound = math.inf

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z * z + math.log(2 * math.pi))

    def draw(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        return torch.randn(shape, device=device)


class StandardLogistic(Base):
    """The logistic of location 0 and scale 1."""

    bound = math.inf

    def log_prob(self, z: Tensor) -> Tensor:
        return logistic_log_prob(z)

    def draw(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """The logarithm of a ratio of two exponentials, which has both of its tails in float32 too."""
        one, other = torch.empty((2, *shape), device=device).exponential_()
        z: Tensor = one.log() - other.log()
        return z


class UniformImage(Base):
    """Values uniform on [-1, 1), seen through a front."""

    def __init__(self, front: Front) -> None:
        self.front, self.bound = front, front.bound

    def log_prob(self, z: Tensor) -> Tensor:
        return self.front.uniform_log_prob(z)

    def draw(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        z: Tensor = self.front(torch.rand(shape, device=device) * 2 - 1)[0]
        return z
