"""Priors of a latent vector: standard normal, or a flow that is learned with the model (Chen et al. 2017)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.distributions import normal_log_prob
from genbench_flow.transforms import Affine


class Coupling(nn.Module):
    """Shifts and scales the second half of z as a perceptron of the first half says (Dinh et al. 2017, equation 7)."""

    def __init__(self, dims: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.kept, self.num_classes = dims - dims // 2, num_classes
        self.affine = Affine()
        self.net = nn.Sequential(
            nn.Linear(self.kept + num_classes, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, 2 * (dims - self.kept)),
        )  # fmt: skip
        for parameter in self.net[-1].parameters():
            nn.init.zeros_(parameter)

    def parameters_of(self, kept: Tensor, labels: Tensor | None) -> Tensor:
        """The other half's shifts and scales, (B, dims - kept, 2), from the kept half (B, kept)."""
        if labels is not None:
            kept = torch.cat([kept, F.one_hot(labels, self.num_classes).to(kept.dtype)], 1)
        out: Tensor = self.net(kept).float()
        return out.view(len(kept), -1, 2)

    def forward(self, z: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """z (B, dims) to e (B, dims), its halves swapped, and log |det de/dz| (B,)."""
        kept, moved = z[:, : self.kept], z[:, self.kept :]
        moved, log_slope = self.affine(moved, self.parameters_of(kept, labels))
        return torch.cat([moved, kept], 1), log_slope.sum(1)

    def inverse(self, e: Tensor, labels: Tensor | None) -> Tensor:
        """The z (B, dims) that `forward` maps to e (B, dims)."""
        moved, kept = e[:, : -self.kept], e[:, -self.kept :]
        return torch.cat([kept, self.affine.inverse(moved, self.parameters_of(kept, labels))], 1)


class Prior(nn.Module):
    """p(z), the density of e ~ N(0, I) taken back through `couplings`; with no couplings, the standard normal."""

    def __init__(self, dims: int, couplings: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.dims = dims
        made = (Coupling(dims, width, num_classes) for _ in range(couplings))
        self.couplings: Sequence[Coupling] = nn.ModuleList(made)  # type: ignore[assignment]

    def log_prob(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """log p(z|label), nats per vector (B,)."""
        log_det = z.new_zeros(len(z))
        for coupling in self.couplings:
            z, change = coupling(z, labels)
            log_det = log_det + change
        zero = torch.zeros_like(z)
        return log_det + normal_log_prob(z, zero, zero).sum(1)

    def draw(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """z (B, dims) from standard normal noise."""
        for coupling in reversed(self.couplings):
            noise = coupling.inverse(noise, labels)
        return noise
