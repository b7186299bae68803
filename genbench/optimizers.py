"""The optimizers that models share: AdamW, and Muon, which moves matrices by orthogonal steps."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

Parameters = nn.Module | Iterable[nn.Parameter]


def trained(parameters: Parameters) -> list[nn.Parameter]:
    """The parameters that take a gradient."""
    found = parameters.parameters() if isinstance(parameters, nn.Module) else parameters
    return [p for p in found if p.requires_grad]


def adamw(
    parameters: Parameters,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
) -> torch.optim.AdamW:
    """Fused AdamW, over the parameters that take a gradient: one kernel instead of several per parameter."""
    return torch.optim.AdamW(trained(parameters), lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True)


def is_matrix(parameter: Tensor, least: int = 16) -> bool:
    """Whether a weight, a convolution's as (out, in x height x width), has at least `least` rows and columns."""
    return parameter.dim() >= 2 and min(len(parameter), parameter[0].numel()) >= least


class Muon(torch.optim.AdamW):
    """Steps along the nearest orthogonal matrix to a weight's momentum, so that all directions are learned alike.

    What is not a matrix, or too small a one, is moved by AdamW. Source: Jordan et al. 2024, "Muon: an optimizer for
    hidden layers in neural networks". torch.optim.Muon takes two-dimensional parameters only, one at a time.
    """

    def __init__(
        self,
        parameters: Parameters,
        learning_rate: float,
        matrix_learning_rate: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        everything = trained(parameters)
        groups: list[dict[str, Any]] = [
            {"params": [p for p in everything if not is_matrix(p)]},
            {"params": [p for p in everything if is_matrix(p)], "lr": matrix_learning_rate},
        ]
        super().__init__(groups, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True)
        self.momentum = momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all parameters that have a gradient. The matrices' gradients are gone afterwards."""
        loss = closure() if closure else None
        group = self.param_groups[1]
        moved = [p for p in group["params"] if p.grad is not None]
        if moved:
            torch._foreach_mul_(moved, 1 - group["lr"] * group["weight_decay"])
            for places, update in self._updates(moved):
                scale = max(1.0, update.shape[1] / update.shape[2]) ** 0.5
                for place, step in zip(places, update):
                    moved[place].add_(step.view_as(moved[place]), alpha=-group["lr"] * scale)
        for p in moved:
            p.grad = None  # so that AdamW passes them over
        super().step()
        return loss

    def _updates(self, moved: list[Tensor]) -> Iterable[tuple[list[int], Tensor]]:
        """The steps (B, rows, columns) of the matrices of one shape, and their places, for each shape."""
        gradients = [p.grad for p in moved if p.grad is not None]
        momenta = [self._momentum_of(p) for p in moved]
        torch._foreach_lerp_(momenta, gradients, 1 - self.momentum)
        ahead = torch._foreach_lerp(gradients, momenta, self.momentum)
        shapes: dict[tuple[int, int], list[int]] = {}
        for place, matrix in enumerate(ahead):
            shapes.setdefault((len(matrix), matrix[0].numel()), []).append(place)
        for places in shapes.values():
            yield places, orthogonal(torch.stack([ahead[place].flatten(1) for place in places]))

    def _momentum_of(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["step"], state["exp_avg"] = torch.zeros(()), torch.zeros_like(parameter)
        momentum: Tensor = state["exp_avg"]
        return momentum


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Matrices (B, rows, columns) with their singular values brought near 1, between about 0.7 and 1.2, float32.

    A quintic Newton-Schulz iteration, whose coefficients rather spread the large singular values than leave the small
    ones behind. Source: Jordan et al. 2024.
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x = (matrices if wide else matrices.mT).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return (x if wide else x.mT).float()
