"""Variational dequantisation: noise within the bins from a flow that sees the levels (Ho et al. 2019, section 3.1)."""

import torch
from torch import Tensor, nn

from genbench import DataSpec
from genbench.images import LEVELS
from genbench_flow.layers import Coupling, Network, squeeze, unsqueeze
from genbench_flow.settings import FlowConfig
from genbench_flow.transforms import Spline


class Dequantizer(nn.Module):
    """q(u|y) of noise u in [0, 1)^D for levels y: uniform noise through splines that see the levels around it.

    Two couplings, each transforming one half of a chequerboard given the other half and all levels. They start as the
    identity, hence as uniform dequantisation, and keep the noise inside its bin, so that the bound is on P(y).
    """

    def __init__(self, data: DataSpec, config: FlowConfig) -> None:
        super().__init__()
        colours, height, width = data.shape
        self.factor = f, g = 2 - height % 2, 2 - width % 2
        places = [(colour + i + j) % 2 for colour in range(colours) for i in range(f) for j in range(g)]
        halves = [[place for place, side in enumerate(places) if side == half] for half in (0, 1)]
        levels = list(range(len(places), 2 * len(places)))
        self.couplings = nn.ModuleList()
        for target, other in (halves, halves[::-1]):
            if target:
                spline, context = Spline(config.bins, 1.0), [*other, *levels]
                outputs = len(target) * spline.parameters_each
                size = (height // f, width // g)
                network = Network(len(context), outputs, config.width, config.blocks, size, 3, data.num_classes)
                self.couplings.append(Coupling(target, context, network, spline))

    def transform(self, noise: Tensor, centres: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Uniform noise on [-1, 1) to that of q, in the same range, and log |det| of the map, nats per image (B,)."""
        x = torch.cat([squeeze(noise, self.factor), squeeze(centres, self.factor)], dim=1)
        log_det = x.new_zeros(len(x))
        for coupling in self.couplings:
            x, change = coupling(x, labels)
            log_det = log_det + change
        return unsqueeze(x.chunk(2, dim=1)[0], self.factor), log_det

    def forward(self, centres: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) dequantised with one draw of u ~ q(u|y), and -log q(u|y) in nats per image (B,).

        `centres` are the bin centres of the levels y. q is a density on the unit cube: uniform noise has log q = 0.
        """
        noise, log_det = self.transform(2 * torch.rand_like(centres) - 1, centres, labels)
        return centres + noise / LEVELS, log_det
