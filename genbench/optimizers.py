"""The optimizers that models share: AdamW, and Muon, which updates matrices by orthogonal steps."""

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

Parameters = nn.Module | Iterable[nn.Parameter]
Decay = Annotated[float, Field(ge=0, lt=1)]
Betas = tuple[Decay, Decay]
"""Adam's decay rates, of the mean gradient and of the mean square, as an option."""


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
    """Fused AdamW over the parameters that take a gradient: one kernel instead of several per parameter."""
    return torch.optim.AdamW(trained(parameters), lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True)


def is_matrix(parameter: Tensor, least: int = 16) -> bool:
    """Whether a weight, read as (out, in x height x width), has at least `least` rows and columns."""
    return parameter.dim() >= 2 and min(len(parameter), parameter[0].numel()) >= least


class Muon(torch.optim.AdamW):
    """Steps along the orthogonal matrix nearest to a weight's momentum, so that all directions learn equally fast.

    Weights that are not matrices, are too small, or are among the `others` (usually embeddings) are updated by AdamW.
    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". torch.optim.Muon takes
    two-dimensional parameters only, one at a time.
    """

    def __init__(
        self,
        parameters: Parameters,
        learning_rate: float,
        matrix_learning_rate: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        others: Iterable[nn.Parameter] = (),
    ) -> None:
        everything, left = trained(parameters), {id(p) for p in others}
        matrices = [is_matrix(p) and id(p) not in left for p in everything]
        groups: list[dict[str, Any]] = [
            {"params": [p for p, chosen in zip(everything, matrices) if not chosen]},
            {"params": [p for p, chosen in zip(everything, matrices) if chosen], "lr": matrix_learning_rate},
        ]
        super().__init__(groups, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True)
        self.momentum = momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters that have a gradient once. The gradients of matrices are None afterwards."""
        loss = closure() if closure else None
        group = self.param_groups[1]
        moved = [p for p in group["params"] if p.grad is not None]
        if moved:
            self._move(moved, group["lr"], 1 - group["lr"] * group["weight_decay"])
        for p in moved:
            p.grad = None  # so that AdamW skips them
        super().step()
        return loss

    def _move(self, moved: list[Tensor], rate: float, kept: float) -> None:
        """Each weight W becomes kept * W - rate * scale * F X; the F of one shorter side are computed as one stack."""
        sides: dict[int, list[tuple[Tensor, Tensor, float]]] = {}
        matrices = [as_matrix(p) for p in moved]
        for weight, ahead in zip(matrices, self._ahead(moved)):
            scale = max(1.0, len(weight) / weight.shape[1]) ** 0.5
            w, x = (weight, ahead) if len(weight) <= weight.shape[1] else (weight.mT, ahead.mT)
            sides.setdefault(len(w), []).append((w, x, rate * scale))
        for members in sides.values():
            factors = inverse_root(torch.stack([x @ x.mT for _, x, _ in members]))
            for (w, x, step), factor in zip(members, factors):
                torch.addmm(w, factor, x, beta=kept, alpha=-step, out=w)
        for p, weight in zip(moved, matrices):
            if not p.is_contiguous() or p.dtype != weight.dtype:  # the matrix is a copy then
                p.copy_(weight.view_as(p))

    def _ahead(self, moved: list[Tensor]) -> list[Tensor]:
        """The updated momenta with Nesterov's look-ahead, X, stored in the gradients' memory."""
        gradients = [p.grad for p in moved if p.grad is not None]
        momenta = [self._momentum_of(p) for p in moved]
        torch._foreach_lerp_(momenta, gradients, 1 - self.momentum)
        torch._foreach_lerp_(gradients, momenta, self.momentum)
        return [as_matrix(x) for x in gradients]

    def _momentum_of(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["step"], state["exp_avg"] = torch.zeros(()), torch.zeros_like(parameter)
        momentum: Tensor = state["exp_avg"]
        return momentum


def as_matrix(x: Tensor) -> Tensor:
    """A weight as (out, in x height x width) in at least float32, sharing memory if possible."""
    return x.to(torch.promote_types(x.dtype, torch.float32)).flatten(1)


def inverse_root(gram: Tensor, iterations: int = 5) -> Tensor:
    """F (B, n, n), about (X X^T)^(-1/2), of X X^T: the singular values of F X are near 1, between about 0.7 and 1.2.

    The quintic Newton-Schulz iteration X <- Q(X X^T) X has coefficients that spread the large singular values rather
    than leave small ones behind. It is a product of polynomials in X X^T alone, so X's longer side takes part in no
    iteration. Small eigenvalues grow 12-fold in each, and so would bfloat16's rounding errors. Source: Jordan et al.
    2024.
    """
    norm = gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None].sqrt() + 1e-7
    gram = gram / norm**2
    factors: list[Tensor] = []
    for _ in range(iterations):
        if factors:
            gram = factors[-1] @ gram @ factors[-1]
        factors.append(torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315))
        factors[-1].diagonal(dim1=1, dim2=2).add_(3.4445)
    return reduce(torch.bmm, factors) / norm
